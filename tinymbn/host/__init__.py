"""The fast engine: from a graph to a program of vector kernels, and from there to its outputs.

``placement`` says where in memory a tensor's elements stand, ``weighted`` and ``lowering`` turn layers into operations,
``program`` collects them and places tensors by lifetime, ``machine`` runs a program on inputs. The kernels themselves
are in ``kernels.fast``; nothing here needs Numba.
"""
