"""The only room that imports duckdb and boto3: warehouse, objects on S3, landing zone, the local S3 server."""
