"""The Dagster shell: assets, checks, resources, partitions and jobs; nothing here computes."""
