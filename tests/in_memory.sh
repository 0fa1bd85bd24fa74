# SPDX-License-Identifier: Apache-2.0
# Read by who runs tests: which of them are to have a TMPDIR in memory. They make thousands of syncs, and of no disk in particular: a disk takes minutes
# for them, and proves no more. Or they make thin files, which a disk takes a minute to delete, or look at notes of images, which are kept in memory alone.

is_in_memory() { # NAME
	case $1 in
	test-guest-survives-kill9 | test_lost_files | test_lost_digests | test_overlays | test_store_model | test_rest | test_images) ;;
	*) return 1 ;;
	esac
}

memory_has_room() {
	local free
	free=$(stat -f -c '%a * %S' /dev/shm 2>/dev/null) && [ $((free >> 20)) -gt 2048 ]
}
