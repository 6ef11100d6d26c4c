"""Every label, annotation, reason and object name, in one place."""

from __future__ import annotations

import hashlib

GROUP = "finetune.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND_JOB = "FineTuneJob"
KIND_DEPLOYMENT = "ModelDeployment"

MANAGER = "finetune-operator"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_JOB = f"{GROUP}/job"
LABEL_ATTEMPT = f"{GROUP}/attempt"
LABEL_ROLE = f"{GROUP}/role"
LABEL_DEPLOYMENT = f"{GROUP}/deployment"
LABEL_REVISION = f"{GROUP}/revision"
ANNOTATION_RUN_CONFIG = f"{GROUP}/run-config"
ANNOTATION_GENERATION = f"{GROUP}/generation"
ANNOTATION_RECORD = f"{GROUP}/record"
"""On a revision's Deployment: its `RevisionRecord`."""
ANNOTATION_STABLE = f"{GROUP}/stable"
"""On the route: the promoted revision."""
ANNOTATION_ROLLOUT = f"{GROUP}/rollout"
"""On the route: `<revision>/<step>` while one is being let in."""
ANNOTATION_REJECTED = f"{GROUP}/rejected"
"""On the route: the rejections that a lost status must not forget."""
ROUTE_ANNOTATIONS = (ANNOTATION_STABLE, ANNOTATION_ROLLOUT, ANNOTATION_REJECTED)
"""Those of the route that the operator sets and takes away; all others are left as they are."""
ANNOTATION_DIGEST = f"{GROUP}/digest"
"""On a revision's Service: the digest of its model."""
ANNOTATION_PROMOTE = f"{GROUP}/promote"
ANNOTATION_ABORT = f"{GROUP}/abort"
ANNOTATION_RETRY = f"{GROUP}/retry"
MANAGED_SELECTOR = f"{LABEL_MANAGED_BY}={MANAGER}"

ROLE_PREFLIGHT = "preflight"
ROLE_TRAINER = "trainer"
ROLE_PUBLISHER = "publisher"
ROLE_GANG = "gang"
ROLE_VERIFIER = "verifier"
ROLE_CHECKER = "checker"
ROLE_ENGINE = "engine"
ROLE_ROUTE = "route"

CONTAINER = "main"
"""Name of the one container in each pod we make."""
LAUNCHER_CONTAINER = "launcher"
STORAGE_CONTAINER = "storage"
"""Of a custom trainer's pod: a sidecar, whose ending is not the pod's."""
GANG_SERVICE = "finetune-gang"


def attempt_job(name: str, attempt: int) -> str:
    return f"{name}-{attempt}"


def preflight_pod(name: str) -> str:
    return f"{name}-preflight"


def publish_job(name: str, index: int) -> str:
    return f"{name}-publish-{index}"


def token_secret(name: str, attempt: int, uid: str) -> str:
    """Carries a part of the uid: the operator may not read Secrets, so the name itself must say whose it is."""
    return f"{name}-{attempt}-token-{hashlib.sha256(uid.encode()).hexdigest()[:8]}"


def gang_policy(name: str) -> str:
    return f"{name}-gang"


def revision_object(name: str, revision: str) -> str:
    """Of a revision's Deployment and Service."""
    return f"{name}-{revision}"


def engine_policy(name: str) -> str:
    return f"{name}-engine"


def verifier_job(name: str, key: str) -> str:
    return f"{name}-verify-{key}"


def checker_job(name: str, revision: str) -> str:
    return f"{name}-check-{revision}"


class Reason:
    """Stable CamelCase reasons of conditions and events."""

    ACCEPTED = "Accepted"
    PREFLIGHT = "Preflight"
    PREFLIGHT_FAILED = "PreflightFailed"
    INVALID_SPEC = "InvalidSpec"
    SPEC_DRIFT = "SpecDrift"
    NAME_CONFLICT = "NameConflict"
    CREATE_REFUSED = "CreateRefused"
    ALREADY_PUBLISHED = "AlreadyPublished"
    QUEUED = "Queued"
    STARTING = "Starting"
    RUNNING = "Running"
    PREEMPTION_NOTICED = "PreemptionNoticed"
    CHECKPOINT_COMMITTED = "CheckpointCommitted"
    RESUMED = "Resumed"
    RESUMING = "Resuming"
    NODE_LOST = "NodeLost"
    BACKOFF = "BackOff"
    ATTEMPT_STARTED = "AttemptStarted"
    ATTEMPT_ENDED = "AttemptEnded"
    START_TIMEOUT = "StartTimeout"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    MAX_RESTARTS = "MaxRestartsExceeded"
    NO_PROGRESS = "NoProgress"
    PUBLISHING = "Publishing"
    EVALUATED = "Evaluated"
    GATE_FAILED = "GateFailed"
    SUCCEEDED = "Succeeded"
    SUSPENDED = "Suspended"
    WAITING_FOR_JOB = "WaitingForFineTuneJob"
    JOB_FAILED = "FineTuneJobFailed"
    ADAPTER_NOT_SERVABLE = "AdapterNotServable"
    REWARD_NOT_SERVABLE = "RewardNotServable"
    CLASSIFIER_NOT_SERVABLE = "ClassifierNotServable"
    LOCAL_ONLY = "LocalUri"
    NO_SERVING_IMAGE = "NoServingImage"
    GATEWAY_API_MISSING = "GatewayApiMissing"
    NO_GATEWAY = "NoGateway"
    HOSTNAME_NOT_ALLOWED = "HostnameNotAllowed"
    PATH_NOT_ALLOWED = "PathNotAllowed"
    HOSTNAME_TAKEN = "HostnameTaken"
    ROUTE_PENDING = "RoutePending"
    ROUTE_NOT_ACCEPTED = "RouteNotAccepted"
    WAITING_FOR_MODEL = "WaitingForModel"
    VERIFYING = "Verifying"
    CHECKING = "Checking"
    WAITING_FOR_DRAIN = "WaitingForDrain"
    STEPPING = "Stepping"
    PAUSED = "Paused"
    PROMOTING = "Promoting"
    PROMOTED = "Promoted"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"
    SUPERSEDED = "Superseded"
    ABORTED = "Aborted"
    REJECTED = "Rejected"
    HEALTHY = "Healthy"
    SCALED_TO_ZERO = "ScaledToZero"
    ENGINES_NOT_READY = "EnginesNotReady"
    INSUFFICIENT_CAPACITY = "InsufficientCapacity"
    PROGRESS_DEADLINE = "ProgressDeadlineExceeded"
    MODEL_NOT_FETCHED = "ModelNotFetched"
    ENGINE_CRASHED = "EngineCrashed"
    ENGINE_RESTARTED = "EngineRestarted"
    ENGINE_NOT_READY = "EngineNotReady"
    ENGINE_UNREACHABLE = "EngineUnreachable"
    ENGINE_STALLED = "EngineStalled"
    SYNTHETIC_FAILED = "SyntheticRequestFailed"
    ANALYSIS_FAILED = "AnalysisFailed"
    ANALYSIS_INCONCLUSIVE = "AnalysisInconclusive"
    TASK_FAILED = "TaskFailed"
    STABLE_LOST = "StableLost"
    REBUILT = "StatusRebuilt"
    WEIGHT_CHANGED = "WeightChanged"
    DRAINED = "Drained"
    ANNOTATION_IGNORED = "AnnotationIgnored"
    RETRIED = "Retried"
