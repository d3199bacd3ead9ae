/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The mirror as others see it: opening and closing a volume, the door that requests come in by, status.
 *
 * The door refuses what must never reach a leg (I4), and what cannot succeed: writes to a volume that is read-only,
 * and new requests while a hanging leg that still counts has filled the reserve of abandoned buffers (I6).
 */
#include "mirror_private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREALLOCATED 64

/* ---- open ---- */

/* While nobody else knows the mirror. */
static int write_label(struct mirror *mirror, int leg)
{
	struct mirror_leg *mine = &mirror->legs[leg];
	uint64_t begun_ns = clock_boot_ns();
	int error = claim_holds(mirror, leg) ? label_write_wait(mine->leg, &mine->label) : -ETIMEDOUT;

	if (!error) {
		mine->relabel.begun_ns = begun_ns;
		claim_renewed_locked(mirror, leg, begun_ns);
	}
	return error;
}

/* Tells the leg that it is known to be old, so that it is not mounted alone by mistake. It may fail: it is not ours. */
static void mark_superseded(struct mirror *mirror, int leg)
{
	struct mirror_leg *mine = &mirror->legs[leg];
	int error;

	if (label_has(&mine->label, LABEL_SUPERSEDED))
		return;
	label_set(&mine->label, LABEL_SUPERSEDED, true);
	error = write_label(mirror, leg);
	/* That label may still land, on one that is written later: it must be given back before the leg rejoins. */
	if (error == -ETIMEDOUT)
		state_set_locked(mirror, leg, MIRROR_OFFLINE, "its label was not written in time");
	else if (error)
		log_warn("stale leg's label not written: leg=%d path=%s reason=\"%s\"", leg, leg_path(mine->leg),
			 strerror(-error));
}

/*
 * Brings the labels up to date: where the legs are now, and durably that the other one is lacking before anybody can
 * write without it (I8). A leg of two whose label cannot be written starts offline.
 */
static int write_labels(struct mirror *mirror, struct error *error)
{
	int result;

	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		struct mirror_leg *mine = &mirror->legs[leg], *other = &mirror->legs[!leg];

		if (mine->state != MIRROR_INSYNC)
			continue;
		mine->label.space_blocks = le64_of(mirror->space_blocks);
		/* A crash may have come when one of the legs had the new name. */
		memcpy(mine->label.name, mirror->identity.label, sizeof(mine->label.name));
		label_set(&mine->label, LABEL_DEGRADED_AUTO, mirror->identity.degraded_auto);
		for (int i = 0; i < MIRROR_LEGS; i++) {
			if (mirror->legs[i].leg)
				label_set_path(&mine->label, i, leg_path(mirror->legs[i].leg));
		}
		if (other->state == MIRROR_INSYNC || mirror->identity.leg_count == 1) {
			label_set(&mine->label, LABEL_LACKS_OTHER | LABEL_EPOCH_ALONE, false);
		} else if (!label_has(&mine->label, LABEL_LACKS_OTHER)) {
			label_set(&mine->label, LABEL_LACKS_OTHER, true);
			mine->label.lacks_after = le64_of(0);
			mirror->unexpected = other->state == MIRROR_ABSENT;
		}
		result = write_label(mirror, leg);
		if (result && !leg_out_locked(mirror, leg, "its label cannot be written: %s", strerror(-result)))
			return error_set(error, result, "%s: its label cannot be written: %s", leg_path(mine->leg),
					 strerror(-result));
	}
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		struct mirror_leg *mine = &mirror->legs[leg];

		if (mine->state == MIRROR_STALE)
			mark_superseded(mirror, leg);
		/* The other one went out a moment ago, and this label may have been written before. */
		if (mine->state != MIRROR_INSYNC || relabel_durable_locked(mirror, leg, mine->relabel.wanted))
			continue;
		result = write_label(mirror, leg);
		if (result)
			return error_set(error, result, "%s: its label cannot be written: %s", leg_path(mine->leg),
					 strerror(-result));
		mine->relabel.durable = mine->relabel.wanted;
	}
	return 0;
}

/* A leg that knows what the volume is called now: a stale one may not, nor one whose newest label may be lost. */
static int named_by(const struct assembly *assembly)
{
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		bool other = assembly->state[!leg] == MIRROR_INSYNC;

		if (assembly->state[leg] == MIRROR_INSYNC && !(other && assembly->bad[leg] > assembly->bad[!leg]))
			return leg;
	}
	return 0;
}

static void take_identity(struct mirror *mirror, const struct assembly *assembly)
{
	const struct format_label *label = &assembly->label[named_by(assembly)];
	struct mirror_identity *identity = &mirror->identity;

	memcpy(identity->volume.bytes, label->volume, sizeof(label->volume));
	memcpy(identity->label, label->name, sizeof(identity->label));
	identity->degraded_auto = label_has(label, LABEL_DEGRADED_AUTO);
	identity->leg_count = (int)le32_get(label->leg_count);
	for (int i = 0; i < MIRROR_LEGS; i++)
		memcpy(identity->leg[i].bytes, label->leg[i], sizeof(label->leg[i]));
	mirror->space_blocks = assembly->space_blocks;
}

void leg_take_locked(struct mirror *mirror, int leg, struct leg *open)
{
	mirror->legs[leg].leg = open;
	settings_times_locked(mirror);
	look_begin_locked(mirror, leg);
}

static void take_legs(struct mirror *mirror, const struct assembly *assembly)
{
	for (int i = 0; i < MIRROR_LEGS; i++) {
		struct mirror_leg *mine = &mirror->legs[i];

		TAILQ_INIT(&mine->tries);
		mine->label = assembly->label[i];
		/* Whoever mounts it to write, by its name and without the others, means it. */
		label_set_replaced(&mine->label, false);
		snprintf(mine->why, sizeof(mine->why), "%s", assembly->why[i]);
		if (!assembly->leg[i] && i < mirror->identity.leg_count)
			log_warn("the volume runs without leg %d: leg=%d reason=\"%s\"", i, i, mine->why);
		if (!assembly->leg[i])
			continue;
		leg_take_locked(mirror, i, assembly->leg[i]);
		if (assembly->state[i] != MIRROR_STALE)
			mirror->legs[i].state = assembly->state[i];
	}
	/* These are events, and tell of the other leg as well. */
	for (int i = 0; i < MIRROR_LEGS; i++) {
		if (assembly->leg[i] && assembly->state[i] == MIRROR_STALE)
			state_set_locked(mirror, i, MIRROR_STALE, "%s", assembly->why[i]);
	}
}

static void destroy(struct mirror *mirror)
{
	struct request *request;

	while ((request = TAILQ_FIRST(&mirror->idle_requests))) {
		TAILQ_REMOVE(&mirror->idle_requests, request, queue);
		free(request);
	}
	while (!TAILQ_EMPTY(&mirror->events)) {
		struct event *event = TAILQ_FIRST(&mirror->events);

		TAILQ_REMOVE(&mirror->events, event, entry);
		free(event);
	}
	free(mirror->lost.blocks);
	histograms_destroy(mirror->times);
	pins_fini(mirror);
	cond_fini(&mirror->resync.wake);
	cond_fini(&mirror->idle);
	cond_fini(&mirror->kick);
	mutex_fini(&mirror->lock);
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		free(mirror->legs[leg].relabel.image);
		free(mirror->legs[leg].claim.image);
	}
	free(mirror);
}

static struct mirror *create(const struct mirror_options *options)
{
	struct mirror *mirror = calloc(1, sizeof(*mirror));

	if (!mirror)
		return NULL;
	mirror->options = *options;
	mutex_init(&mirror->lock, RANK_MIRROR);
	cond_init(&mirror->kick);
	cond_init(&mirror->idle);
	cond_init(&mirror->resync.wake);
	mirror->resync.leg = -1;
	mirror->times = histograms_create(PLACES * LEG_OPS);
	pins_init(mirror);
	TAILQ_INIT(&mirror->requests);
	TAILQ_INIT(&mirror->held);
	TAILQ_INIT(&mirror->starved);
	TAILQ_INIT(&mirror->ended);
	TAILQ_INIT(&mirror->refused);
	TAILQ_INIT(&mirror->idle_requests);
	TAILQ_INIT(&mirror->events);
	TAILQ_INIT(&mirror->legs[OUTGOING].tries);
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		mirror->legs[leg].relabel.mirror = mirror->legs[leg].claim.mirror = mirror;
		mirror->legs[leg].relabel.image = aligned_alloc(IOBUF_ALIGN, LABEL_SIZE);
		mirror->legs[leg].claim.image = aligned_alloc(IOBUF_ALIGN, LABEL_SIZE);
		mirror->legs[leg].claim.until_ns = CLOCK_NEVER;
	}
	for (int i = 0; i < PREALLOCATED; i++) {
		struct request *request = malloc(sizeof(*request));

		if (!request)
			break;
		TAILQ_INSERT_TAIL(&mirror->idle_requests, request, queue);
		mirror->idle_count++;
	}
	if (!mirror->times || !mirror->legs[0].relabel.image || !mirror->legs[1].relabel.image ||
	    !mirror->legs[0].claim.image || !mirror->legs[1].claim.image || mirror->idle_count < PREALLOCATED) {
		destroy(mirror);
		return NULL;
	}
	return mirror;
}

static int keeper_start(struct mirror *mirror, struct error *error)
{
	int code;

	mirror->stopping = false;
	code = thread_start(&mirror->keeper, "mirror", keeper_run, mirror);
	return code ? error_set(error, code, "the keeper thread cannot be started: %s", strerror(-code)) : 0;
}

/* Nothing is written meanwhile, whatever befalls a leg: a volume that is refused stays as it is. */
static int admit(struct mirror *mirror, struct error *error)
{
	bool read_only = mirror->options.read_only;
	int code;

	if (!mirror->options.admit)
		return 0;
	mirror->options.read_only = true;
	code = keeper_start(mirror, error);
	if (code)
		return code;
	code = mirror->options.admit(mirror, read_only, error);
	mutex_lock(&mirror->lock);
	while (mirror->working)
		cond_wait(&mirror->idle, &mirror->lock);
	mirror->stopping = true;
	cond_signal(&mirror->kick);
	mutex_unlock(&mirror->lock);
	thread_join(&mirror->keeper);
	mirror->options.read_only = read_only;
	return code;
}

static bool is_shared(const struct assembly *assembly, const struct mirror_options *options)
{
	bool shared = options->shared;

	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		shared |= assembly->leg[leg] && (label_shared(&assembly->label[leg]) ||
						 leg_geometry(assembly->leg[leg])->shared);
	return shared;
}

/* Claimed ones are looked at anew: whoever had them before may have written. */
static int assemble_claimed(struct leg *legs[MIRROR_LEGS], const struct mirror_options *options,
			    const struct format_claim *claim, struct assembly *assembly,
			    uint64_t begun_ns[MIRROR_LEGS], struct error *error)
{
	int code = assemble(legs, options, assembly, error);

	begun_ns[0] = begun_ns[1] = 0;
	if (code || !is_shared(assembly, options))
		return code;
	code = claim_take(legs, claim, options, "-o takeover", begun_ns, error);
	return code ? code : assemble(legs, options, assembly, error);
}

static int open_assembled(struct mirror *mirror, const struct assembly *assembly, struct leg *legs[MIRROR_LEGS],
			  const uint64_t begun_ns[MIRROR_LEGS], struct error *error)
{
	int code;

	take_identity(mirror, assembly);
	take_legs(mirror, assembly);
	for (int i = 0; i < MIRROR_LEGS; i++) {
		for (int leg = 0; leg < MIRROR_LEGS && legs[i]; leg++)
			if (mirror->legs[leg].leg == legs[i])
				claim_begin_locked(mirror, leg, begun_ns[i]);
	}
	code = admit(mirror, error);
	/* No lock: nobody else knows the mirror now, and none may be held while a leg is waited for. */
	if (!code && !mirror->options.read_only)
		code = write_labels(mirror, error);
	if (!code)
		code = keeper_start(mirror, error);
	return code;
}

int mirror_open(struct leg *legs[MIRROR_LEGS], const struct mirror_options *options, struct mirror **result,
		struct error *error)
{
	struct mirror *mirror = create(options);
	uint64_t begun_ns[MIRROR_LEGS];
	struct assembly assembly;
	int code;

	*result = NULL;
	if (!mirror)
		return error_set(error, -ENOMEM, "no memory for the mirror");
	claim_make(&mirror->claim, options);
	code = assemble_claimed(legs, options, &mirror->claim, &assembly, begun_ns, error);
	if (!code)
		code = open_assembled(mirror, &assembly, legs, begun_ns, error);
	if (!code) {
		*result = mirror;
		return 0;
	}
	/* To a leg that still holds a request it is left. */
	if (leg_busy(&mirror->legs[0]) || leg_busy(&mirror->legs[1]))
		return code;
	for (int i = 0; i < MIRROR_LEGS; i++)
		if (begun_ns[i])
			claim_drop(legs[i], &mirror->claim, begun_ns[i]);
	destroy(mirror);
	return code;
}

/* ---- close ---- */

bool leg_busy(const struct mirror_leg *mine)
{
	return !TAILQ_EMPTY(&mine->tries) || mine->relabel.flying || mine->look.flying || mine->claim.flying;
}

/* A label that it did not write in time at the mount is known to the leg alone. */
bool leg_quiet(const struct mirror_leg *mine)
{
	struct leg_counters counters;

	leg_counters(mine->leg, &counters);
	return !leg_busy(mine) && !mine->unjudged && !counters.in_flight;
}

static bool legs_quiet_locked(const struct mirror *mirror)
{
	bool busy = false;

	for (int leg = 0; leg < PLACES; leg++)
		busy |= leg_busy(&mirror->legs[leg]);
	return !busy;
}

/* All is given back: others may have it. Not one that is out, or that is not to be written any more. */
static void close_claimed(struct mirror *mirror, int leg)
{
	struct mirror_leg *mine = &mirror->legs[leg];

	if (mine->claim.on && relabel_has_locked(mirror, leg) && !mirror->failed)
		claim_drop(mine->leg, &mirror->claim, mine->claim.renewed_ns);
	leg_close(mine->leg);
}

bool mirror_close(struct mirror *mirror)
{
	uint64_t patience_ns = 0, until_ns;
	bool quiet, succeeded;

	mutex_lock(&mirror->lock);
	assert(TAILQ_EMPTY(&mirror->requests) && mirror->resync.leg < 0);
	/* How much was written without the other leg is for people to choose by, should there be two histories. */
	for (int leg = 0; leg < MIRROR_LEGS && mirror->alone; leg++) {
		if (mirror->legs[leg].state == MIRROR_INSYNC && label_has(&mirror->legs[leg].label, LABEL_EPOCH_ALONE))
			relabel_want_locked(mirror, leg);
	}
	for (int leg = 0; leg < PLACES; leg++) {
		if (mirror->legs[leg].timeout_ns > patience_ns)
			patience_ns = mirror->legs[leg].timeout_ns;
	}
	/* Repairs end by themselves: the keeper judges them. */
	while (mirror->working)
		cond_wait(&mirror->idle, &mirror->lock);
	until_ns = clock_now_ns() + patience_ns;
	while (!legs_quiet_locked(mirror) || !relabel_settled_locked(mirror)) {
		if (!cond_wait_until(&mirror->idle, &mirror->lock, until_ns))
			break;
	}
	mirror->stopping = true;
	cond_signal(&mirror->kick);
	mutex_unlock(&mirror->lock);
	thread_join(&mirror->keeper);

	mutex_lock(&mirror->lock);
	quiet = legs_quiet_locked(mirror);
	succeeded = outgoing_succeeded_locked(mirror);
	for (int leg = 0; leg < PLACES; leg++) {
		struct mirror_leg *mine = &mirror->legs[leg];

		if (!mine->leg)
			continue;
		if (leg_busy(mine)) {
			log_warn("leg left open, it has not given back %llu requests: leg=%d path=%s",
				 (unsigned long long)mine->abandoned, leg == OUTGOING ? mirror->replaced : leg,
				 leg_path(mine->leg));
			continue;
		}
		mutex_unlock(&mirror->lock);
		if (leg == OUTGOING)
			outgoing_close(mine->leg, succeeded, &mirror->claim);
		else
			close_claimed(mirror, leg);
		mutex_lock(&mirror->lock);
		mine->leg = NULL;
	}
	mutex_unlock(&mirror->lock);
	if (quiet)
		destroy(mirror);
	return quiet;
}

/* ---- the door ---- */

static bool well_formed(const struct mirror *mirror, const struct mirror_io *io)
{
	bool data = io->op == MIRROR_READ || io->op == MIRROR_WRITE;
	unsigned int only = io->flags & (MIRROR_ONLY_LEG0 | MIRROR_ONLY_LEG1);
	uint64_t space = mirror->space_blocks;

	if ((only && !data) || only == (MIRROR_ONLY_LEG0 | MIRROR_ONLY_LEG1))
		return false;
	if (io->op == MIRROR_FLUSH)
		return true;
	if (io->block >= space || io->count > space - io->block)
		return false;
	if (!data)
		return true;
	if (io->count > MIRROR_IO_BLOCKS || !io->buf || io->buf_offset % MIRROR_BLOCK ||
	    io->buf_offset > io->buf->size || (size_t)io->count * MIRROR_BLOCK > io->buf->size - io->buf_offset)
		return false;
	return io->op != MIRROR_READ || !io->verify || (io->verify_blocks && io->count % io->verify_blocks == 0);
}

/* A leg that still counts and gives nothing back would only pin more. */
static bool pinned_full_locked(struct mirror *mirror)
{
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		if (leg_writable(mirror, leg) && mirror->legs[leg].abandoned)
			return iobuf_reserve_full(mirror->options.pool);
	}
	return false;
}

int mirror_submit(struct mirror *mirror, struct mirror_io *io)
{
	struct request *request;
	unsigned int mask = 0;
	int error;

	if (io->op != MIRROR_FLUSH && !io->count) {
		mutex_lock(&mirror->lock);
		mirror->empty_refused++;
		mutex_unlock(&mirror->lock);
		return -EINVAL;
	}
	if (!well_formed(mirror, io))
		return -EINVAL;
	request = request_create(mirror, io);
	if (!request)
		return -ENOMEM;
	mutex_lock(&mirror->lock);
	mirror->working++;
	request->deadline_ns = mirror->running_ns + mirror->deadline_ns + TICK_NS;
	TAILQ_INSERT_TAIL(&mirror->requests, request, entry);
	if (mirror->resync.leg >= 0 && request->only < 0 && !mirror->resync.looking)
		mirror->resync.foreground_ns = clock_now_ns();
	if (pinned_full_locked(mirror))
		error = -EIO;
	else if (io->op == MIRROR_READ)
		error = read_first_locked(request, &mask);
	else
		error = write_first_locked(request, &mask);
	if (!mask) {
		request->error = error;
		request_park_locked(request, ON_ENDED);
	}
	mutex_unlock(&mirror->lock);
	if (mask)
		request_launch(request, mask);
	return 0;
}

static void waited_for(struct mirror_io *io)
{
	leg_wait_done(io->context);
}

int mirror_submit_wait(struct mirror *mirror, struct mirror_io *io)
{
	struct leg_wait wait;
	int error;

	io->done = waited_for;
	io->context = &wait;
	leg_wait_begin(&wait);
	error = mirror_submit(mirror, io);
	if (error)
		leg_wait_done(&wait);
	leg_wait(&wait);
	return error ? error : io->error;
}

/* ---- questions ---- */

struct iobuf_pool *mirror_pool(struct mirror *mirror)
{
	return mirror->options.pool;
}

void mirror_generation_durable(struct mirror *mirror, uint64_t generation)
{
	mutex_lock(&mirror->lock);
	/* What a leg that is out has flushed is no longer ours to say. */
	if (survivor_locked(mirror) < 0)
		mirror->generation = generation;
	mirror->checkpoint = generation;
	mutex_unlock(&mirror->lock);
}

void mirror_generation_known(struct mirror *mirror, uint64_t generation)
{
	int survivor;

	mutex_lock(&mirror->lock);
	survivor = survivor_locked(mirror);
	if (survivor < 0 && !mirror->generation) {
		mirror->generation = generation;
	} else if (survivor >= 0 && mirror->unexpected && generation) {
		mirror->unexpected = false;
		mirror->legs[survivor].label.lacks_after = le64_of(generation);
		relabel_want_locked(mirror, survivor);
	}
	mutex_unlock(&mirror->lock);
}

const struct mirror_identity *mirror_identity(const struct mirror *mirror)
{
	return &mirror->identity;
}

uint64_t mirror_blocks(const struct mirror *mirror)
{
	return mirror->space_blocks;
}

bool mirror_leg_insync(struct mirror *mirror, int leg)
{
	bool insync;

	mutex_lock(&mirror->lock);
	insync = mirror->legs[leg].state == MIRROR_INSYNC;
	mutex_unlock(&mirror->lock);
	return insync;
}

bool mirror_failed(struct mirror *mirror)
{
	bool failed;

	mutex_lock(&mirror->lock);
	failed = mirror->failed;
	mutex_unlock(&mirror->lock);
	return failed;
}

bool mirror_discards(struct mirror *mirror)
{
	bool some = false;

	mutex_lock(&mirror->lock);
	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		some |= leg_writable(mirror, leg) && leg_geometry(mirror->legs[leg].leg)->discard;
	mutex_unlock(&mirror->lock);
	return some;
}

static void clear_counters(struct mirror_leg *mine)
{
	mine->read_errors = mine->checksum_errors = mine->repaired = mine->charged = mine->timeouts = 0;
	mine->hedged = mine->overtaken = 0;
}

void leg_forget(struct mirror_leg *mine)
{
	clear_counters(mine);
	mine->latency_ns = mine->usual_ns = mine->slow_history = mine->noted_ns = 0;
	mine->slow = false;
}

void mirror_counters_clear(struct mirror *mirror)
{
	mutex_lock(&mirror->lock);
	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		clear_counters(&mirror->legs[leg]);
	mirror->lost.count = 0;
	mirror->deadline_missed = mirror->request_errors = mirror->retries = 0;
	mutex_unlock(&mirror->lock);
}

/* The lock is held throughout, so that the leg is not closed meanwhile. */
static int drill_locked(struct mirror *mirror, int leg, const char *rules, uint64_t last_ns, struct error *error)
{
	struct leg *drilled = leg >= 0 && leg < MIRROR_LEGS ? mirror->legs[leg].leg : NULL;

	if (!drilled)
		return error_set(error, -ENODEV, "there is no leg %d", leg);
	for (int i = 0; i < MIRROR_LEGS && rules[0]; i++) {
		if (mirror->legs[i].state != MIRROR_INSYNC)
			return error_set(error, -EBUSY,
					 "a drill needs both legs in sync: the last one is no place for it");
	}
	return leg_drill(drilled, rules, last_ns, error);
}

int mirror_drill(struct mirror *mirror, int leg, const char *rules, uint64_t last_ns, struct error *error)
{
	int code;

	mutex_lock(&mirror->lock);
	code = drill_locked(mirror, leg, rules, last_ns, error);
	mutex_unlock(&mirror->lock);
	if (!code && rules[0])
		log_warn("a drill begins: leg=%d rules=\"%s\" seconds=%llu", leg, rules,
			 (unsigned long long)(last_ns / NSEC_PER_SEC));
	return code;
}

void mirror_lost(struct mirror *mirror, uint64_t block, uint32_t count)
{
	mutex_lock(&mirror->lock);
	lost_add_locked(mirror, block, count);
	mutex_unlock(&mirror->lock);
}

void mirror_fail(struct mirror *mirror, const char *why)
{
	mutex_lock(&mirror->lock);
	volume_fail_locked(mirror, "read-only by error: %s", why);
	mutex_unlock(&mirror->lock);
}

void mirror_scrubbed(struct mirror *mirror, int leg, uint64_t bad, uint64_t rewritten)
{
	mutex_lock(&mirror->lock);
	mirror->legs[leg].checksum_errors += bad;
	mirror->legs[leg].repaired += rewritten;
	mutex_unlock(&mirror->lock);
}

static uint64_t tries_count(const struct mirror_leg *mine)
{
	const struct try *try;
	uint64_t count = 0;

	TAILQ_FOREACH (try, &mine->tries, entry)
		count++;
	return count;
}

void mirror_status(struct mirror *mirror, struct mirror_status *status)
{
	memset(status, 0, sizeof(*status));
	mutex_lock(&mirror->lock);
	status->identity = mirror->identity;
	status->failed = mirror->failed;
	status->read_only = mirror->options.read_only;
	/* A leg that was just filled suffices alone when its label says so, with which the resync ends. */
	status->healthy = !mirror->failed && survivor_locked(mirror) < 0 && !mirror->legs[0].leaving &&
			  !mirror->legs[1].leaving && mirror->resync.leg < 0;
	status->space_blocks = mirror->space_blocks;
	status->empty_refused = mirror->empty_refused;
	status->request_errors = mirror->request_errors;
	status->retries = mirror->retries;
	status->unrecoverable = mirror->lost.count;
	memcpy(status->failed_why, mirror->failed_why, sizeof(status->failed_why));
	status->deadline_missed = mirror->deadline_missed;
	status->policy = mirror->options.policy;
	status->write_mostly = mirror->options.write_mostly;
	status->deadline_ns = mirror->deadline_ns;
	status->resync = resync_status_locked(mirror);
	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		const struct mirror_leg *mine = &mirror->legs[leg];

		if (mine->leg) {
			status->compat |= le64_get(mine->label.compat) & ~(uint64_t)LABEL_COMPAT_KNOWN;
			status->ro_compat |= le64_get(mine->label.ro_compat);
		}
		status->leg[leg].state = mine->state;
		memcpy(status->leg[leg].why, mine->why, sizeof(mine->why));
		claim_tell_locked(mirror, leg, &status->leg[leg].claim);
		status->leg[leg].leaving = mine->leaving;
		status->leg[leg].latency_ns = mine->latency_ns;
		status->leg[leg].usual_ns = mine->usual_ns;
		status->leg[leg].slow = mine->slow;
		status->leg[leg].hedged = mine->hedged;
		status->leg[leg].overtaken = mine->overtaken;
		status->leg[leg].read_errors = mine->read_errors;
		status->leg[leg].checksum_errors = mine->checksum_errors;
		status->leg[leg].repaired = mine->repaired;
		status->leg[leg].timeouts = mine->timeouts;
		status->leg[leg].timeout_ns = mine->timeout_ns;
		status->leg[leg].abandoned = mine->abandoned;
		status->leg[leg].charged = mine->charged;
		status->leg[leg].queue = tries_count(mine);
		if (!mine->leg)
			continue;
		snprintf(status->leg[leg].address, sizeof(status->leg[leg].address), "%s", leg_address(mine->leg));
		snprintf(status->leg[leg].engine, sizeof(status->leg[leg].engine), "%s", leg_engine_name(mine->leg));
		status->leg[leg].geometry = *leg_geometry(mine->leg);
		leg_counters(mine->leg, &status->leg[leg].counters);
		leg_drill_now(mine->leg, status->leg[leg].drill, &status->leg[leg].drill_left_ns);
	}
	if (mirror->legs[OUTGOING].leg)
		snprintf(status->leg[mirror->replaced].replaces, sizeof(status->leg[0].replaces), "%s",
			 leg_address(mirror->legs[OUTGOING].leg));
	mutex_unlock(&mirror->lock);
}

size_t mirror_in_flight(struct mirror *mirror, struct mirror_in_flight *list, size_t most)
{
	static const char *const names[LEG_OPS] = { "read", "write", "flush", "discard", "look" };
	uint64_t now_ns = clock_now_ns();
	const struct try *try;
	size_t count = 0;

	mutex_lock(&mirror->lock);
	for (int leg = 0; leg < PLACES; leg++) {
		TAILQ_FOREACH (try, &mirror->legs[leg].tries, entry) {
			if (count == most)
				break;
			list[count++] = (struct mirror_in_flight){
				.leg = leg, .op = names[try->io.op], .abandoned = try->state == TRY_ABANDONED,
				.block = try->io.length ? (try->io.offset - MIRROR_SPACE_OFFSET) / MIRROR_BLOCK : 0,
				.count = (uint32_t)(try->io.length / MIRROR_BLOCK),
				/* It may just be on its way. */
				.since_ns = try->io.submitted_ns ? now_ns - try->io.submitted_ns : 0,
			};
		}
	}
	mutex_unlock(&mirror->lock);
	return count;
}

void mirror_times(struct mirror *mirror, int leg, enum leg_op op, struct histogram *histogram)
{
	histograms_read(mirror->times, (unsigned int)leg * LEG_OPS + op, histogram);
}
