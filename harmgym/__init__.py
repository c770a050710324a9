"""harmgym: study, measure and train what a computer-use agent does after something has gone wrong.

Importing it registers ``HarmRecovery-v0`` with Gymnasium;
``gymnasium.make("harmgym:HarmRecovery-v0")`` imports it by itself.
"""

from harmgym.registration import register

__version__ = "0.1.0"

register()
