"""Read inputs and vectors from CSV and Parquet files."""
