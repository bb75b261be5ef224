"""Questions, captions, clips and sentence features as strictly checked Parquet tables."""
