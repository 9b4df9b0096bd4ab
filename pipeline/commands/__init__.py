"""The commands of ``calpendo-pipeline``, one module each: parse, call the library, print."""
