"""Webhooks: who is told of what, and how the telling goes."""
