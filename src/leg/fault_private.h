/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A fault leg's rules as they are kept; the grammar is told at the head of fault.c. */
#ifndef MIRRORFS_FAULT_PRIVATE_H
#define MIRRORFS_FAULT_PRIVATE_H

#include "mirrorfs/leg.h"

#include <bsd/sys/queue.h>

#define FAULT_BLOCK 4096u /* what corrupt= and latch count in */

enum fault_effect {
	FAULT_NONE, /* delay alone */
	FAULT_ERROR,
	FAULT_HANG,
	FAULT_ALIGN,
	FAULT_DROP,
	FAULT_TORN,
	FAULT_SHORT,
	FAULT_CORRUPT,
	FAULT_MISDIRECT,
	FAULT_LOST,
	FAULT_EFFECTS,
};

struct fault_rule {
	STAILQ_ENTRY(fault_rule) link;
	unsigned int ops; /* a bit for each leg_op that it concerns */
	enum fault_effect effect;
	int error; /* -errno */
	uint64_t amount; /* of align, torn and short: bytes */
	int64_t shift; /* of misdirect */
	uint64_t delay_ns;
	bool ranged;
	uint64_t from, end; /* bytes, `end` not included */
	uint64_t after, count, chance; /* count and chance 0: not given */
	char *when;
	bool latch;
	unsigned char *latched; /* of latch: a bit for each block of the range that is still bad */

	/* changes as requests come by */
	uint64_t matched, applied;
};

STAILQ_HEAD(fault_rules, fault_rule);

/* 0, or -errno with `error` told and `rules` empty. */
int fault_rules_parse(const char *text, const struct leg_geometry *geometry, struct fault_rules *rules,
		      struct error *error);
void fault_rules_free(struct fault_rules *rules);

/* One block of a latch, counted from the start of the leg. */
bool fault_rule_latched(const struct fault_rule *rule, uint64_t block);
void fault_rule_heal(struct fault_rule *rule, uint64_t block);

#endif
