/* SPDX-License-Identifier: Apache-2.0 */
/* Pooled HTTP/1.1 connections of one worker. */
#pragma once

#include "proxy/upstream/upstream.h"

/* Close the idle connections of a host that takes no new request. */
void up_pool_close_idle(struct up_host *h);
