"""The network and its training: the only layer that imports torch."""

import os

from cellunet.errors import optional

# Read by the OpenMP runtime that torch brings (GNU's, Intel's or LLVM's) when torch is
# first imported. Threads that wait in a loop for the others keep them from the cores as
# soon as other programs compute too. GOMP_SPINCOUNT and KMP_BLOCKTIME go before it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Imported before all else here: without torch, this one line says what to install.
optional("torch", "train", "Training, like --engine torch,")
