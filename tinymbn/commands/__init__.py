"""The commands of ``tinymbn``, by what they are about; ``tinymbn.cli`` gathers them.

Each parses, calls what does the work, prints. They import what they need when they run, so that ``--help`` and
``--version`` answer at once.
"""
