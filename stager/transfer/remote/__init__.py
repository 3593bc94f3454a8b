"""Schemes besides http, https and file, read through fsspec and its backends; the one place that knows them.

Nothing of fsspec's own caches is used: they would serve files that are cut short.
"""

from stager.model.urls import GENERIC

BACKENDS = {
    "ftp": "stager.transfer.remote.ftp:FtpBackend",
    "sftp": "stager.transfer.remote.sftp:SftpBackend",
    "s3": "stager.transfer.remote.s3:S3Backend",
    "gs": "stager.transfer.remote.gs:GsBackend",
    "webdav": "stager.transfer.remote.webdav:WebdavBackend",
    "smb": "stager.transfer.remote.smb:SmbBackend",
    **dict.fromkeys(GENERIC, "stager.transfer.remote.generic:GenericBackend"),
}
"""What reads each scheme; imported when it is needed. The extra that brings its packages has the scheme's name."""
PACKAGES = {
    "ftp": "fsspec",
    "sftp": "sshfs",
    "s3": "s3fs",
    "gs": "gcsfs",
    "webdav": "webdav4",
    "smb": "smbprotocol",
}
"""Without which a scheme can't be read."""
