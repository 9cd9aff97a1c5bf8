"""The Dagster shell: assets, checks, resources, partitions, jobs. The only room besides definitions.py that imports dagster."""
