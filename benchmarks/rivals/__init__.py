"""The head-to-head with other tools: what they are given, how they run, how they are judged."""
