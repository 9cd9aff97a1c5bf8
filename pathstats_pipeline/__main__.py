"""`python -m pathstats_pipeline` is the `pathstats` command."""

from pathstats_pipeline.cli import main

main()
