"""vLLM's CPU platform, started with one interpreter instead of three.

Importing vLLM costs eight seconds of a core. On CPU vLLM spawns the engine as a fresh interpreter, which imports it all
again; on GPUs it forks. An engine of one thread that binds itself to no core can be forked as well: it starts in a
third of the time and shares most of its memory with its API server.
"""


def platform() -> str:
    """The entry point by which vLLM asks for a platform."""
    return "finetune_vllm_cpu.platform.ForkingCpuPlatform"
