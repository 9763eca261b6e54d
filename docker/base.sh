#!/bin/sh
# Makes a base image what both images run on: Python without installers, its standard library compiled, a named user.
set -eu

# A base without Python, such as a CUDA development one, gets its distribution's; the headers are for DeepSpeed's kernels.
if ! command -v python3 >/dev/null; then
    apt-get update --quiet
    DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends python3 python3-dev python3-venv
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log /var/cache/ldconfig/aux-cache
fi

library=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
# Official Python images bring pip and ensurepip's copy of it, Debian's Python the latter in a folder of its own.
rm -rf "$library"/site-packages/pip "$library"/site-packages/pip-* "$library"/ensurepip /usr/share/python-wheels \
    /usr/local/bin/pip*
# Official images have no .pyc files, and where the root cannot be written every start would compile anew.
if [ ! -d "$library/__pycache__" ]; then
    python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -x '/(test|tests|idlelib|turtledemo)/' "$library"
fi
# Nothing here becomes another user.
find / -xdev -type f -perm /6000 -exec chmod a-s {} +
# getpass and torch ask for the user's name.
echo 'g2rpo:x:65532:' >>/etc/group
echo 'g2rpo:x:65532:65532::/tmp:/usr/sbin/nologin' >>/etc/passwd
