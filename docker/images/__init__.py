"""Builds, exports and lists the images of the Dockerfile, with the container tool that this machine has.

Nothing but the standard library, so that it runs before anything is installed.
"""
