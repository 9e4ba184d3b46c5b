"""The Celery worker: what runs near the GPU."""
