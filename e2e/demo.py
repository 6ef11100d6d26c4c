"""`make demo`: the whole chain on a real cluster, from `kubectl apply` of a job to a model behind canary weights.

Each chapter does what its heading says, checks that it really happened, and shows the commands a user would type.
"""

from __future__ import annotations

import argparse
import sys
import time

from e2e.cluster import Cluster
from e2e.story import bad_revisions, interruptions, leaving, mistakes, publishing, serving, sharing, training
from e2e.story.narrator import Narrator
from e2e.story.stage import Stage, StoryError

_EPILOG = """examples:
  make demo                              the whole story (about 20 minutes on 2 cores, cluster included when cached)
  python -m e2e.demo --chapters a,b,e    some chapters only (b, c, d and e build on a)
  python -m e2e.demo --chapters a,e,A,B  a small letter trains, a capital one serves (B to H build on A)
  python -m e2e.demo --uninstall         also chapter g: remove the operator and see what stays
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.demo", description=__doc__, epilog=_EPILOG, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--chapters", default="a,f,b,c,d,e,A,B,C,D,E,F,G,H", help="letters of the story, default %(default)s"
    )
    parser.add_argument("--uninstall", action="store_true", help="end with chapter g")
    args = parser.parse_args()
    letters = set(args.chapters.split(",")) | ({"g"} if args.uninstall else set())
    narrator = Narrator()
    stage = Stage(Cluster.current(), narrator)
    began = time.monotonic()
    try:
        tell(stage, letters)
    except StoryError as error:
        narrator.settle()
        narrator.console.print(f"\n[bold red]The story broke:[/bold red] {error}", markup=True, soft_wrap=True)
        return 1
    narrator.table(
        f"What was seen ({time.monotonic() - began:.0f} s)", ["", "what", "figure"], [list(f) for f in stage.facts]
    )
    look_further(stage)
    return 0


def tell(stage: Stage, letters: set[str], *, brief: bool = False) -> None:
    """`brief`: once through each letter, and not each of its variants."""
    say = stage.narrator.chapter
    say("0", "A namespace, a Secret, a tiny base model and data", "Everything is generated here; no hub is asked.")
    stage.set_up()
    if "f" in letters:
        say("f", "Mistakes get words, before a GPU is taken")
        mistakes.f_refused(stage)
        mistakes.f_preflight(stage)
    if "a" in letters:
        say("a", "Two pods, two nodes, one torchrun gang")
        training.a_train(stage)
    if "e" in letters:
        say("e", "Evaluate, gate, merge, publish")
        publishing.e_publish(stage)
    if "b" in letters:
        say("b", "A spot node is reclaimed mid-run")
        training.b_preempt(stage)
    if "c" in letters and "b" in letters:
        say("c", "A pod is killed with SIGKILL")
        training.c_kill(stage)
    if "d" in letters and "b" in letters:
        say("d", "The operator is killed and stays away")
        training.d_operator_away(stage)
    if {"a", "b"} <= letters:
        say("b", "The same parameters, to the last bit")
        training.compare(stage)
    if "c" in letters and not brief:
        say("c", "A node becomes unreachable, its pod trains on")
        training.c_zombie(stage)
    if "e" in letters and not brief:
        say("e", "A gate that fails, and is relaxed")
        publishing.e_gate(stage)
    if {"e", "f"} <= letters:
        say("f", "The same manifest again")
        publishing.f_already_published(stage)
    if "A" in letters:
        tell_serving(stage, letters, brief=brief)
    if "g" in letters:
        say("g", "Taking the operator away")
        leaving.g_uninstall(stage)


def tell_serving(stage: Stage, letters: set[str], *, brief: bool) -> None:
    say = stage.narrator.chapter
    if "C" in letters and not brief:
        bad_revisions.publish_warned(stage)
    say("A", "A deployment names a job that still trains")
    bot = serving.a_serve(stage)
    if "B" in letters:
        say("B", "Another model takes over: 20, 50, 100", "A client asks without pause, every second answer streamed.")
        serving.b_canary(stage, bot)
    if "C" in letters:
        say("C", "Revisions that must not get through")
        bad_revisions.c_bad_revisions(stage, bot, brief=brief)
    if "D" in letters:
        say("D", "The operator dies in every stage")
        interruptions.d_operator_away(stage, bot)
    if letters & set("EFGH"):
        say("E", "Two deployments on one Gateway")
        other = sharing.e_gateway(stage)
        if "F" in letters:
            say("F", "No room, a person's word, an abort")
            sharing.f_people(stage, other)
        if "G" in letters:
            say("G", "Who owns replicas")
            sharing.g_sizes(stage, other)
        if "H" in letters:
            say("H", "Leaving without cutting anybody off")
            sharing.h_leaving(stage, other)


def look_further(stage: Stage) -> None:
    say = stage.narrator.say
    config = stage.cluster.kubeconfig
    say(f"export KUBECONFIG={config}")
    say(f"kubectl -n {stage.namespace} get finetunejobs -o wide")
    say(f"kubectl -n {stage.namespace} describe finetunejob support-bot-spot")
    say(f"kubectl -n {stage.namespace} get modeldeployments -o wide")
    say(f"kubectl -n {stage.namespace} describe modeldeployment support-bot")
    say(f"kubectl -n {stage.namespace} get events --sort-by=.lastTimestamp")
    say("docs/quickstart.md goes on from here; make cluster-down removes the cluster")


if __name__ == "__main__":
    sys.exit(main())
