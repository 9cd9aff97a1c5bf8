"""Objects under keys: the same few verbs on a directory and on S3.

Here: put once, read, list, delete, and the multipart upload of the archive. What the keys mean stands elsewhere
(storage/landing.py, archive/keys.py). Objects are immutable: nothing here overwrites. What every store promises stands
in protocol.py, each store in a file of its own; what reads the objects of others, which may change, in versions.py.
"""

from pathstats_pipeline.storage.objects.directory import DirectoryObjects
from pathstats_pipeline.storage.objects.protocol import ArchiveObjects, MissingObjectError, Objects, ObjectsError
from pathstats_pipeline.storage.objects.s3 import S3Objects
from pathstats_pipeline.storage.objects.versions import ObjectVersion, VersionedObjects, VersionStream

__all__ = [
    "ArchiveObjects",
    "DirectoryObjects",
    "MissingObjectError",
    "ObjectVersion",
    "Objects",
    "ObjectsError",
    "S3Objects",
    "VersionStream",
    "VersionedObjects",
]
