# SPDX-License-Identifier: Apache-2.0
# A real guest for a test: Debian's cloud kernel with an initramfs of busybox, driven over its console. Sourced behind lib.sh.
#
#	requires_guest				or the test is skipped
#	guest_start COMMAND			a QEMU command with its disks; the kernel and the console are added. Emulated: no KVM is needed
#	guest COMMAND...			runs it in the guest, and prints what it prints; it must end with 0
#	guest_ready TEXT, guest_send COMMAND	the two halves of that: for what runs meanwhile
#	guest_off				powers it off, and waits

GUEST=${KAGAMI_GUEST:-/var/cache/kagami/guest}
GUEST_SECONDS=180 # for a boot, and for a command: an emulated guest beside other tests takes its time

requires_guest() {
	[ "$(uname -m)" = x86_64 ] || skip "needs x86-64: the guest is one"
	requires qemu-system-x86_64 cpio busybox
	file_is_static || skip "needs busybox-static; to install it: sudo tools/setup dev"
	[ -s "$GUEST/vmlinuz" ] || skip "needs the guest's kernel in $GUEST; to fetch it: sudo tools/setup dev"
	guest_initramfs
}

file_is_static() { # busybox runs where no library is
	! ldd "$(command -v busybox)" >/dev/null 2>&1
}

guest_initramfs() {
	local root=$W/initramfs
	mkdir -p "$root"/{bin,dev,proc,sys,mnt,mnt2,tmp}
	cp "$(command -v busybox)" "$root/bin/busybox"
	cp "$GUEST"/*.ko "$root/"
	cat >"$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
for module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk; do
	insmod /$module.ko 2>/dev/null
done
stty -echo -onlcr 2>/dev/null
echo GUEST-READY
while read -r line; do
	eval "$line"
	echo "GUEST-STATUS $?"
done
poweroff -f
INIT
	chmod +x "$root/init"
	(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$W/initramfs.gz"
}

guest_start() { # COMMAND
	rm -f "$W/guest.in" "$W/guest.out"
	mkfifo "$W/guest.in"
	: >"$W/guest.out"
	guest_seen=0
	# A machine option that comes later counts: accel=kvm:tcg becomes tcg, which is the same everywhere.
	bash -c "exec $1 -machine accel=tcg -nodefaults -display none -no-reboot -serial stdio -kernel '$GUEST/vmlinuz' -initrd '$W/initramfs.gz' \
		-append 'console=ttyS0 quiet panic=-1'" <"$W/guest.in" >"$W/guest.out" 2>"$W/guest.err" &
	guest_pid=$!
	pids+=($guest_pid)
	exec 7>"$W/guest.in"
	guest_ready 'GUEST-READY' >/dev/null
}

# Waits until a line that matches has come since the last one that was waited for; prints what was said up to it.
guest_ready() { # REGEX
	local deadline=$((SECONDS + GUEST_SECONDS)) lines at
	while :; do
		lines=$(tail -n +$((guest_seen + 1)) "$W/guest.out" | tr -d '\r')
		at=$(grep -nE -m 1 -- "$1" <<<"$lines" | cut -d : -f 1) || true
		[ -z "$at" ] || break
		kill -0 $guest_pid 2>/dev/null || fail "the guest ended before it said '$1': $(tail -n 30 "$W/guest.out" "$W/guest.err")"
		[ $SECONDS -lt $deadline ] || fail "the guest did not say '$1' in $GUEST_SECONDS s: $(tail -n 30 "$W/guest.out" "$W/guest.err")"
		sleep 0.05
	done
	guest_seen=$((guest_seen + at))
	head -n "$at" <<<"$lines"
}

guest_send() { # COMMAND
	printf '%s\n' "$1" >&7
}

guest() { # COMMAND
	local said
	guest_send "$1"
	said=$(guest_ready '^GUEST-STATUS [0-9]+$') || fail "$said"
	guest_seen=$((guest_seen + $(wc -l <<<"$said"))) # the subshell counted for itself
	grep -v '^GUEST-STATUS' <<<"$said" || true
	[[ $said == *"GUEST-STATUS 0" ]] || fail "in the guest: $1: $said"
}

guest_is_well() { # no error of a disk or of a file system
	local log
	log=$(guest 'dmesg')
	! grep -iE 'I/O error|EXT4-fs (error|warning)|Buffer I/O|hung task|blocked for more' <<<"$log" || fail "the guest's kernel complains"
}

guest_off() {
	local deadline=$((SECONDS + 60))
	guest_send 'poweroff -f'
	while kill -0 $guest_pid 2>/dev/null; do
		[ $SECONDS -lt $deadline ] || fail "the guest does not power off: $(tail -n 20 "$W/guest.out")"
		sleep 0.05
	done
	exec 7>&-
	wait $guest_pid || fail "QEMU ended with status $?: $(cat "$W/guest.err")"
}
