// SPDX-License-Identifier: Apache-2.0
// Loop devices through the kernel's own interface (loop(4)).
//
// By ioctl and not by losetup(8), for two reasons: LOOP_CONFIGURE sets file, range and autoclear in one step, so that there
// is no moment in which a crash leaves a device behind; and a race for a free device is seen as EBUSY (or ENXIO, when the device
// went meanwhile) and tried again. The kernel names the same free device to all who ask, so those who lose pause for a time of
// their own before they ask again: at once, they would meet at the next device.
#include "receiver/loop.h"

#include "base/auto.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

enum { LOOP_WAIT_MS = 10000, LOOP_PAUSE_US_MAX = 20000 };

static int loop_configure(int device, int file, uint64_t off, uint64_t len)
{
	struct loop_config config = {
		.fd = (uint32_t)file,
		.info = {.lo_offset = off, .lo_sizelimit = len, .lo_flags = LO_FLAGS_AUTOCLEAR},
	};
	return ioctl(device, LOOP_CONFIGURE, &config) ? -errno : 0;
}

// One try: -EBUSY when another process was quicker.
static int loop_try(int control, int file, uint64_t off, uint64_t len, char name[LOOP_NAME_SIZE])
{
	int number = ioctl(control, LOOP_CTL_GET_FREE);
	if (number < 0)
		return -errno;
	(void)snprintf(name, LOOP_NAME_SIZE, "/dev/loop%d", number);
	AUTO_CLOSE int device = open(name, O_RDWR | O_CLOEXEC);
	if (device < 0)
		return -errno;
	int rc = loop_configure(device, file, off, len);
	if (rc)
		return rc;
	int kept = device;
	device = -1;
	return kept;
}

static void loop_pause(void)
{
	uint32_t dice = 0;
	(void)!getrandom(&dice, sizeof(dice), GRND_NONBLOCK);
	(void)usleep(1 + dice % LOOP_PAUSE_US_MAX);
}

int loop_attach(const char *file, uint64_t off, uint64_t len, char name[LOOP_NAME_SIZE], struct err *err)
{
	AUTO_CLOSE int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		return err_sys(err, -errno, "open /dev/loop-control");
	AUTO_CLOSE int backing = open(file, O_RDWR | O_CLOEXEC);
	if (backing < 0)
		return err_sys(err, -errno, "open %s", file);
	int64_t until_ms = clock_mono_ms() + LOOP_WAIT_MS;
	int rc;
	while ((rc = loop_try(control, backing, off, len, name)) == -EBUSY || rc == -ENXIO) {
		if (clock_mono_ms() >= until_ms)
			break;
		loop_pause();
	}
	return rc < 0 ? err_sys(err, rc, "get a loop device for %s", file) : rc;
}

int loop_file(const char *device, char *file, size_t cap)
{
	char path[128];
	if (strncmp(device, "/dev/loop", 9) != 0 || strchr(device + 5, '/'))
		return -ENOENT;
	if (snprintf(path, sizeof(path), "/sys/block/%s/loop/backing_file", device + 5) >= (int)sizeof(path))
		return -ENOENT;
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -ENOENT;
	ssize_t n = read(fd, file, cap - 1);
	if (n <= 0)
		return -ENOENT;
	file[n] = 0;
	file[strcspn(file, "\n")] = 0;
	return 0;
}
