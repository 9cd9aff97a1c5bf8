"""What is told to people and to their monitoring: messages of failures, and metrics. Pure; knows no Dagster."""
