// SPDX-License-Identifier: Apache-2.0
#include "replicator/nbd_gone.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

// Both counts begin anew by themselves: the first with each progress, the second with each answer.
static bool asked_in_vain(const struct tcp_info *info)
{
	return info->tcpi_retransmits >= NBD_GONE_ASKED || info->tcpi_probes >= NBD_GONE_ASKED;
}

bool nbd_gone(struct nbd_gone *gone, int fd, int64_t now_ms, int after_ms)
{
	struct tcp_info info = {.tcpi_state = 0};
	socklen_t len = sizeof(info);
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return false;
	if (!asked_in_vain(&info) || info.tcpi_bytes_acked != gone->acked)
		*gone = (struct nbd_gone){.acked = info.tcpi_bytes_acked, .since_ms = now_ms};
	return now_ms - gone->since_ms >= after_ms;
}
