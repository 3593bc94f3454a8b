#!/bin/sh
# The first process of a guest (see hosts.py): mounts what a process expects, brings up the network, and
# hands over to the agent. The kernel passes the variables used here.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev && mkdir /dev/shm
for directory in /run /dev/shm /var/lib/nfs; do # the root file system is read-only
    mount -t tmpfs tmpfs $directory
done
mkdir -p /run/home /run/tmp /run/lock /run/m/lib
ln -s /usr/lib/uml/modules /run/m/lib/modules
modprobe -d /run/m -a nfsv4 nfsv3
hostname "$guest"
ip link set lo up
ip addr add "$address/24" dev vec0
ip link set vec0 up
cd "$project" || exit 1
HOME=/run/home TMPDIR=/run/tmp PYTHONDONTWRITEBYTECODE=1 \
    "$python" -m tests.support.guest_agent "$guest" "$address" "$caller"
echo o >/proc/sysrq-trigger
sleep 60 # until the kernel has done so
