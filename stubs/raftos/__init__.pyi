from raftos.conf import config as config
from raftos.conf import configure as configure
