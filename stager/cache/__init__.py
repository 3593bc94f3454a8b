"""The file cache: the only code that touches the tree on the share.

`store.FileCache` is the way in. Beneath it: `layout` (key → path, arithmetic only), `tree` (opens and
creates the directories), `entries` (key → object), `partial` and `publish` (private temporary → verified,
immutable object), `pins` (what a job sees), `access` (when was it last used).
"""
