/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A leg that fails on purpose: it wraps another leg and does to its requests what the rules say. It is a leg
 * like any other, so whole mounts are tested on it: fault:RULES:PATH is an address.
 *
 * RULES  rules separated by `;`. The first rule that applies to a request decides; rules that only delay add
 *        up and let the next ones decide. No rules: nothing goes wrong. RULES holds no colon.
 * rule   words separated by `,`. The first is the operation: read, write, flush, discard, any. Then come
 *        conditions and one effect (or delay= alone). SIZE and OFF are bytes; K, M, G, T multiply by powers
 *        of 1024; 0x is understood.
 *
 * Effects
 *  error=E        answered with the errno E (EIO, a number, ...); nothing is done
 *  delay=MS       held for MS milliseconds first; goes with every other effect. Other requests pass by
 *  hang           never answered, until the rules are replaced or the leg is closed: then with EIO, not done
 *  align=SIZE     EINVAL if the request's memory is not aligned to SIZE          (read, write)
 *  drop           answered as done, and not done                                 (write, flush, discard)
 *  torn=SIZE      only the first SIZE bytes are written, answered as done        (write)
 *  short=SIZE     only the first SIZE bytes are done, answered so: a short one   (read, write)
 *  corrupt        one byte of each 4096 is changed, always the same one          (read)
 *  misdirect=OFF  done OFF bytes further, which may be negative; not applied where that lies outside
 *                                                                                (read, write)
 *  lost           done, and answered with ENOTCONN, as if a server came to it when the connection was gone; with
 *                 delay= later than whatever was written since        (write, flush, discard)
 *  SIZE of torn and short is rounded down to whole blocks of the leg; no effect on a request no longer than it.
 *
 * Conditions: all must hold
 *  range=OFF-OFF  the request touches these bytes, the last one not included; without the second OFF to the end.
 *                 A flush has no range, so no ranged rule applies to it. corrupt changes only what lies inside
 *  latch          part of the range is bad until it is rewritten: with read, range= and error= (EIO if not
 *                 said) or corrupt. Counts in blocks of 4096; a block is healed by a write of all of it. The
 *                 range is at most 64G
 *  after=N        the first N requests that meet the other conditions pass
 *  count=N        applies N times, then never again
 *  chance=N       applies to one in N, drawn each time; with latch: one in N blocks is bad, drawn once
 *  when=FILE      FILE exists at that moment: a test can switch a fault on under a running mount
 *
 * Example: fault:read,error=EIO,range=1M-2M,latch;write,delay=200,chance=10:/images/leg0
 *
 * How. Each request passed on is carried by one of our own. What waits, hangs or is answered without being done
 * is held in order of its time, and a thread deals with it then; so nothing is completed inside a submit, and
 * what is held stands in nobody's way.
 */
#include "fault_private.h"
#include "leg_private.h"

#include "mirrorfs/base/clock.h"
#include "mirrorfs/base/iobuf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FAULT_BLOCKS_MAX (IOBUF_MAX / FAULT_BLOCK + 1) /* that one request may touch */

struct fault_request {
	struct leg_io below; /* what is passed on */
	struct leg_io *io;
	TAILQ_ENTRY(fault_request) held;
	LIST_ENTRY(fault_request) all;
	uint64_t due_ns; /* while held; CLOCK_NEVER: hangs */
	enum fault_effect effect;
	int error;
	unsigned char corrupt[(FAULT_BLOCKS_MAX + 7) / 8]; /* a bit for each block, from the request's first */
};

struct fault_leg {
	struct leg leg;
	struct fault_rules rules; /* this and the rest: under leg.lock */
	TAILQ_HEAD(fault_held, fault_request) held; /* by due_ns */
	LIST_HEAD(, fault_request) all;
	struct cond wake;
	struct thread thread;
	bool closing; /* what is held is given up */
	struct leg *drilled; /* of a drill: the leg below, which is not ours. All below that, too */
	uint64_t until_ns; /* then it ends; CLOCK_NEVER: none is on */
	char text[LEG_DRILL_MAX];
	bool abandoned;
};

static void fault_finish(struct fault_leg *fault, struct fault_request *request, int error, size_t bytes)
{
	struct leg_io *io = request->io;

	mutex_lock(&fault->leg.lock);
	LIST_REMOVE(request, all);
	mutex_unlock(&fault->leg.lock);
	free(request);
	leg_complete(io, error, bytes);
}

static void fault_heal_locked(struct fault_leg *fault, const struct leg_io *io)
{
	uint64_t first = (io->offset + FAULT_BLOCK - 1) / FAULT_BLOCK, end = (io->offset + io->length) / FAULT_BLOCK;
	struct fault_rule *rule;

	STAILQ_FOREACH(rule, &fault->rules, link) {
		for (uint64_t block = first; rule->latch && block < end; block++)
			fault_rule_heal(rule, block);
	}
}

static void fault_corrupt(const struct fault_request *request)
{
	const struct leg_io *io = request->io;
	uint64_t first = io->offset / FAULT_BLOCK;
	unsigned char *data = io->data;

	for (uint64_t i = 0; i < FAULT_BLOCKS_MAX; i++) {
		uint64_t from = (first + i) * FAULT_BLOCK, end = from + FAULT_BLOCK;

		if (!(request->corrupt[i / 8] & 1u << i % 8))
			continue;
		if (from < io->offset)
			from = io->offset;
		if (end > io->offset + io->length)
			end = io->offset + io->length;
		data[from - io->offset + (first + i) * 2654435761u % (end - from)] ^= 0x40;
	}
}

static void fault_done(struct leg_io *below)
{
	struct fault_request *request = below->context;
	struct fault_leg *fault = (struct fault_leg *)request->io->leg;
	int error = below->error;
	size_t bytes = below->bytes;

	if (!error && below->op == LEG_WRITE) {
		mutex_lock(&fault->leg.lock);
		fault_heal_locked(fault, below);
		mutex_unlock(&fault->leg.lock);
	}
	if (!error && request->effect == FAULT_CORRUPT)
		fault_corrupt(request);
	if (!error && request->effect == FAULT_LOST) {
		error = -ENOTCONN;
		bytes = 0;
	}
	if (!error && request->effect == FAULT_SHORT)
		error = -EIO;
	if (!error && request->effect == FAULT_TORN)
		bytes = request->io->length;
	fault_finish(fault, request, error, bytes);
}

static int fault_pass_on(struct fault_leg *fault, struct fault_request *request)
{
	return leg_submit_past_drill(fault->leg.below, &request->below);
}

/* A held request's time has come. */
static void fault_act(struct fault_leg *fault, struct fault_request *request)
{
	int error = request->error;

	switch (request->effect) {
	case FAULT_ERROR:
	case FAULT_HANG:
		fault_finish(fault, request, error, 0);
		return;
	case FAULT_DROP:
		fault_finish(fault, request, 0, request->io->op == LEG_FLUSH ? 0 : request->io->length);
		return;
	default:
		error = fault_pass_on(fault, request);
		if (error)
			fault_finish(fault, request, error, 0);
	}
}

static void fault_hold_locked(struct fault_leg *fault, struct fault_request *request)
{
	struct fault_request *before;

	TAILQ_FOREACH_REVERSE(before, &fault->held, fault_held, held) {
		if (before->due_ns <= request->due_ns)
			break;
	}
	if (before)
		TAILQ_INSERT_AFTER(&fault->held, before, request, held);
	else
		TAILQ_INSERT_HEAD(&fault->held, request, held);
}

/* New rules (moved from `fresh`); what hung by the old ones is answered. */
static void fault_replace_locked(struct fault_leg *fault, struct fault_rules *fresh)
{
	struct fault_request *request, *next;

	fault_rules_free(&fault->rules);
	STAILQ_CONCAT(&fault->rules, fresh);
	TAILQ_FOREACH_SAFE(request, &fault->held, held, next) {
		if (request->due_ns != CLOCK_NEVER)
			continue;
		TAILQ_REMOVE(&fault->held, request, held);
		request->due_ns = 0;
		fault_hold_locked(fault, request);
	}
	cond_signal(&fault->wake);
}

static void fault_expire_locked(struct fault_leg *fault)
{
	struct fault_rules none = STAILQ_HEAD_INITIALIZER(none);

	fault_replace_locked(fault, &none);
	fault->until_ns = CLOCK_NEVER;
	fault->text[0] = '\0';
	atomic_store(&fault->drilled->drill, NULL);
}

static void fault_run(void *arg)
{
	struct fault_leg *fault = arg;
	struct fault_request *request;

	mutex_lock(&fault->leg.lock);
	while (!fault->abandoned) {
		uint64_t now = clock_now_ns(), next;

		if (fault->until_ns <= now)
			fault_expire_locked(fault);
		request = TAILQ_FIRST(&fault->held);
		if (!request && fault->closing)
			break;
		next = request && request->due_ns < fault->until_ns ? request->due_ns : fault->until_ns;
		if (!fault->closing && next > now) {
			cond_wait_until(&fault->wake, &fault->leg.lock, next);
			continue;
		}
		TAILQ_REMOVE(&fault->held, request, held);
		if (fault->closing) {
			request->effect = FAULT_HANG;
			request->error = -EIO;
		}
		mutex_unlock(&fault->leg.lock);
		fault_act(fault, request);
		mutex_lock(&fault->leg.lock);
	}
	mutex_unlock(&fault->leg.lock);
}

/* The blocks of the request that a ranged or latched rule means; false: none. */
static bool fault_blocks(const struct fault_rule *rule, const struct leg_io *io, unsigned char *bits)
{
	uint64_t first = io->offset / FAULT_BLOCK;
	bool any = false;

	for (uint64_t block = first; block * FAULT_BLOCK < io->offset + io->length; block++) {
		uint64_t i = block - first;

		if (rule->ranged && ((block + 1) * FAULT_BLOCK <= rule->from || block * FAULT_BLOCK >= rule->end))
			continue;
		if (rule->latch && !fault_rule_latched(rule, block))
			continue;
		bits[i / 8] |= (unsigned char)(1u << i % 8);
		any = true;
	}
	return any;
}

/* Everything about the request itself; the counting comes after. */
static bool fault_meets(const struct fault_leg *fault, const struct fault_rule *rule, const struct leg_io *io)
{
	uint64_t size = fault->leg.geometry.size_bytes;
	unsigned char bits[(FAULT_BLOCKS_MAX + 7) / 8] = { 0 };

	if (!(rule->ops & 1u << io->op))
		return false;
	if (rule->ranged && (io->offset >= rule->end || io->offset + io->length <= rule->from))
		return false;
	if (rule->latch && !fault_blocks(rule, io, bits))
		return false;
	switch (rule->effect) {
	case FAULT_ALIGN:
		if ((uintptr_t)io->data % rule->amount == 0)
			return false;
		break;
	case FAULT_TORN:
	case FAULT_SHORT:
		if (io->length <= rule->amount)
			return false;
		break;
	case FAULT_MISDIRECT:
		if ((rule->shift < 0 && io->offset < (uint64_t)-rule->shift) ||
		    (int64_t)io->offset + rule->shift + (int64_t)io->length > (int64_t)size)
			return false;
		break;
	default:
		break;
	}
	return !rule->when || !access(rule->when, F_OK);
}

static bool fault_applies(struct fault_leg *fault, struct fault_rule *rule, const struct leg_io *io)
{
	if ((rule->count && rule->applied >= rule->count) || !fault_meets(fault, rule, io))
		return false;
	if (rule->matched++ < rule->after)
		return false;
	if (rule->chance && random_u64() % rule->chance)
		return false;
	rule->applied++;
	return true;
}

/* Bends the request as the rule says. */
static void fault_apply(struct fault_leg *fault, const struct fault_rule *rule, struct fault_request *request)
{
	uint64_t whole = rule->amount - rule->amount % fault->leg.geometry.block_size;

	request->effect = rule->effect;
	switch (rule->effect) {
	case FAULT_ERROR:
		request->error = rule->error;
		break;
	case FAULT_HANG:
		request->error = -EIO;
		request->due_ns = CLOCK_NEVER;
		break;
	case FAULT_ALIGN:
		request->effect = FAULT_ERROR;
		request->error = -EINVAL;
		break;
	case FAULT_TORN:
	case FAULT_SHORT:
		request->below.length = whole;
		if (whole)
			break;
		/* Nothing of it is left, and no empty request goes down (I4). */
		request->effect = rule->effect == FAULT_TORN ? FAULT_DROP : FAULT_ERROR;
		request->error = -EIO;
		break;
	case FAULT_CORRUPT:
		fault_blocks(rule, request->io, request->corrupt);
		break;
	case FAULT_MISDIRECT:
		request->below.offset += (uint64_t)rule->shift;
		break;
	default:
		break;
	}
}

/* Judges a request by the rules. True: it is held, for the thread to act on at due_ns. */
static bool fault_judge_locked(struct fault_leg *fault, struct fault_request *request)
{
	uint64_t now = request->io->submitted_ns;
	struct fault_rule *rule;

	request->due_ns = now;
	STAILQ_FOREACH(rule, &fault->rules, link) {
		if (!fault_applies(fault, rule, request->io))
			continue;
		request->due_ns += rule->delay_ns;
		if (rule->effect == FAULT_NONE)
			continue;
		fault_apply(fault, rule, request);
		break;
	}
	return request->due_ns > now || request->effect == FAULT_ERROR || request->effect == FAULT_DROP;
}

static int fault_submit(struct leg *leg, struct leg_io *io)
{
	struct fault_leg *fault = (struct fault_leg *)leg;
	struct fault_request *request = calloc(1, sizeof(*request));
	bool held;
	int error;

	if (!request)
		return -ENOMEM;
	request->io = io;
	request->below = (struct leg_io){ .op = io->op, .flags = io->flags, .offset = io->offset, .length = io->length,
					  .data = io->data, .done = fault_done, .context = request };
	mutex_lock(&leg->lock);
	LIST_INSERT_HEAD(&fault->all, request, all);
	held = fault_judge_locked(fault, request);
	if (held)
		fault_hold_locked(fault, request);
	mutex_unlock(&leg->lock);
	if (held) {
		cond_signal(&fault->wake);
		return 0;
	}
	error = fault_pass_on(fault, request);
	if (error) {
		mutex_lock(&leg->lock);
		LIST_REMOVE(request, all);
		mutex_unlock(&leg->lock);
		free(request);
	}
	return error;
}

static void fault_free(struct fault_leg *fault)
{
	struct fault_request *request;

	while ((request = LIST_FIRST(&fault->all))) {
		LIST_REMOVE(request, all);
		free(request);
	}
	fault_rules_free(&fault->rules);
	cond_fini(&fault->wake);
	leg_fini(&fault->leg);
	free(fault);
}

static void fault_close(struct leg *leg)
{
	struct fault_leg *fault = (struct fault_leg *)leg;

	mutex_lock(&leg->lock);
	fault->closing = true;
	mutex_unlock(&leg->lock);
	cond_signal(&fault->wake);
	thread_join(&fault->thread);
	if (!fault->drilled)
		leg_close(leg->below);
	fault_free(fault);
}

static void fault_abandon(struct leg *leg)
{
	struct fault_leg *fault = (struct fault_leg *)leg;

	mutex_lock(&leg->lock);
	fault->abandoned = true;
	mutex_unlock(&leg->lock);
	cond_signal(&fault->wake);
	leg_thread_abandon(&fault->thread);
	leg->below->ops->abandon(leg->below);
	fault_free(fault);
}

static const struct leg_ops fault_ops = {
	.submit = fault_submit,
	.refresh = leg_refresh_wrapper,
	.close = fault_close,
	.abandon = fault_abandon,
};

static int fault_create(struct leg *below, const char *rules, struct fault_leg **created, struct error *error)
{
	struct fault_leg *fault = calloc(1, sizeof(*fault));
	int result = -ENOMEM;

	*created = NULL;
	if (!fault)
		goto no_fault;
	TAILQ_INIT(&fault->held);
	LIST_INIT(&fault->all);
	fault->until_ns = CLOCK_NEVER;
	result = fault_rules_parse(rules, &below->geometry, &fault->rules, error);
	if (result)
		goto no_rules;
	result = leg_init_wrapper(&fault->leg, &fault_ops, below);
	if (result)
		goto no_leg;
	cond_init(&fault->wake);
	result = thread_start(&fault->thread, "leg-fault", fault_run, fault);
	if (result)
		goto no_thread;
	*created = fault;
	return 0;

no_thread:
	cond_fini(&fault->wake);
	leg_fini(&fault->leg);
no_leg:
	fault_rules_free(&fault->rules);
no_rules:
	free(fault);
no_fault:
	return error_set(error, result, "a fault leg cannot be made: %s", strerror(-result));
}

int leg_fault_wrap(struct leg *below, const char *rules, struct leg **leg, struct error *error)
{
	struct fault_leg *fault;
	int result = fault_create(below, rules, &fault, error);

	if (result)
		leg_close(below);
	*leg = result ? NULL : &fault->leg;
	return result;
}

int leg_fault_set(struct leg *leg, const char *rules, struct error *error)
{
	struct fault_leg *fault = (struct fault_leg *)leg;
	struct fault_rules fresh;
	int result;

	if (leg->ops != &fault_ops)
		return error_set(error, -EINVAL, "%s is not a fault leg", leg->address);
	result = fault_rules_parse(rules, &leg->geometry, &fresh, error);
	if (result)
		return result;
	mutex_lock(&leg->lock);
	fault_replace_locked(fault, &fresh);
	mutex_unlock(&leg->lock);
	return 0;
}

/* ---- drills ---- */

/* A drill never touches what is on the disk, and looks at nobody's files. */
static bool fault_harmless(const struct fault_rules *rules)
{
	const struct fault_rule *rule;

	STAILQ_FOREACH(rule, rules, link) {
		bool listed = rule->effect == FAULT_NONE || rule->effect == FAULT_ERROR || rule->effect == FAULT_HANG ||
			      rule->effect == FAULT_CORRUPT;

		if (!listed || rule->when)
			return false;
	}
	return true;
}

int leg_drill(struct leg *leg, const char *rules, uint64_t last_ns, struct error *error)
{
	struct fault_leg *fault = (struct fault_leg *)atomic_load(&leg->driller);
	struct fault_rules fresh;
	int result;

	if (strlen(rules) >= LEG_DRILL_MAX)
		return error_set(error, -EINVAL, "the rules are too long");
	result = fault_rules_parse(rules, &leg->geometry, &fresh, error);
	if (!result && !fault_harmless(&fresh)) {
		fault_rules_free(&fresh);
		return error_set(error, -EINVAL, "a drill may fail, hang, delay, and corrupt what is read");
	}
	if (!result && !fault) {
		result = fault_create(leg, "", &fault, error);
		if (result)
			fault_rules_free(&fresh);
		else
			fault->drilled = leg;
	}
	if (result)
		return result;
	atomic_store(&leg->driller, &fault->leg);
	mutex_lock(&fault->leg.lock);
	fault_replace_locked(fault, &fresh);
	fault->until_ns = clock_now_ns() + last_ns;
	strcpy(fault->text, rules);
	atomic_store(&leg->drill, &fault->leg);
	if (!rules[0])
		fault_expire_locked(fault);
	mutex_unlock(&fault->leg.lock);
	return 0;
}

void leg_drill_now(struct leg *leg, char text[LEG_DRILL_MAX], uint64_t *left_ns)
{
	struct fault_leg *fault = (struct fault_leg *)atomic_load(&leg->driller);
	uint64_t now = clock_now_ns();

	text[0] = '\0';
	*left_ns = 0;
	if (!fault)
		return;
	mutex_lock(&fault->leg.lock);
	strcpy(text, fault->text);
	if (text[0] && fault->until_ns > now)
		*left_ns = fault->until_ns - now;
	mutex_unlock(&fault->leg.lock);
}
