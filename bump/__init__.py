"Natural-language user profiles from raw logs, learned without labels."

__version__ = "0.1.0"

_HOME = {  # main names, imported when they are first asked for: `import bump` itself is instant
    "BumpConfig": "training.config",
    "BumpError": "errors",
    "load_logs": "interactions",
    "load_model": "models",
    "make_engine": "engines.make",
    "make_judge": "judges",
    "open_prepared": "prepared",
    "prepare_log": "prepared",
    "score": "intrinsic",
    "train": "training.fit",
    "write_profiles": "profiles",
}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'bump' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"bump.{_HOME[name]}"), name)


def __dir__():
    return sorted([*globals(), *_HOME])
