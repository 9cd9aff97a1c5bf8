"""Field maps shipped with the package: one TOML file for each server whose JSON lines we know. No code."""
