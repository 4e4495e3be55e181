"""Imports a module, and calls one of its functions without arguments."""

from __future__ import annotations

import importlib
import json

from agent.doctor.probe import request


def main() -> None:
    asked = request()
    try:
        module = importlib.import_module(asked["module"])
        if asked.get("call"):
            getattr(module, asked["call"])()
    except (ImportError, OSError) as error:
        print(json.dumps({"imported": False, "error": str(error)[:200]}))
        return
    print(json.dumps({"imported": True, "version": str(getattr(module, "__version__", ""))}))


if __name__ == "__main__":
    main()
