"""A few of the engine's many arguments."""

from __future__ import annotations

import argparse


class EngineArgs:
    kv_cache_memory_bytes: int | None = None

    @staticmethod
    def add_cli_args(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
        parser.add_argument("--model", default="unset")
        parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
        parser.add_argument("--max-model-len", type=int)
        parser.add_argument("--seed", type=int)
        parser.add_argument("--kv-cache-memory-bytes", type=int)
        parser.add_argument("--enforce-eager", action=argparse.BooleanOptionalAction, default=False)
        parser.add_argument("--disable-log-stats", action="store_true")
        return parser
