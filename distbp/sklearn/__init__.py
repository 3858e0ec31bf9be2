"""DistbpClassifier and DistbpRegressor: scikit-learn's interface to `distbp.train()`.

Needs scikit-learn, which `pip install 'distbp[sklearn]'` brings; without it, importing this raises ImportError.
"""

from distbp.errors import ConfigError
from distbp.installation import need

try:
    need("distbp.sklearn", "sklearn")
except ConfigError as missing:
    raise ImportError(str(missing)) from None

from distbp.sklearn.classifier import DistbpClassifier
from distbp.sklearn.regressor import DistbpRegressor

__all__ = ["DistbpClassifier", "DistbpRegressor"]
