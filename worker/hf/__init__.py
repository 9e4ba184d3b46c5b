"""Language models by transformers' `from_config`: nothing is downloaded, and none of a stranger's code runs.

Importing `worker.hf.build` loads transformers, which takes seconds: only what meets such a trajectory does.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read once, when transformers is imported
