/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One mount at a time, across machines: the claim in the label of a leg that machines share (I13).
 *
 * A mount writes to such a leg only while it has the leg's claim. Each label that it writes there renews it, and one
 * is written every so often (the beat), after a look whether the last one is still there. The rest is an order of
 * times, of clocks that count while a machine is suspended where that makes one stop, and do not where one waits:
 *
 *  - who has begun no label within `fence` that then was found on the leg writes nothing more: the leg is out, or the
 *    volume read-only. That is judged when a write is submitted, so it needs no thread that is awake;
 *  - a claim is taken only from who has written no label for `wait`, which is three times that. The rest of it is for
 *    writes that were submitted before the fence and are still on their way: none may be for longer;
 *  - who takes a claim, a free one as well, writes it within `settle` of having looked, into both slots; waits as long
 *    again; and has it if it is still there. Of two that come together the later has it.
 *
 * A claim that has fallen silent is of a machine that is dead, or cut off: that is for people to say. Only one with our
 * own machine-id is taken without a word, a crash being likely. Since cloned machines share theirs, and one machine
 * may see a disk by two paths, that saves nobody the waiting.
 *
 * Each leg is claimed for itself. Who has lost one goes on with the other as if that leg had failed.
 */
#include "mirror_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define BEAT_NS (2 * NSEC_PER_SEC)
#define FENCE_BEATS 8u
#define LOOKS 96u /* in a watch: four a beat */
#define SHORTEST_MS 100u /* what a label may say of its times */
#define LONGEST_MS 3600000u

uint64_t claim_settle_ns = 2 * NSEC_PER_SEC;
unsigned int claim_wait_fences = 3;

/* ---- claims as labels have them ---- */

static bool same_mount(const struct format_claim *a, const struct format_claim *b)
{
	return !memcmp(a->mount, b->mount, sizeof(a->mount));
}

static bool is_held(const struct format_label *label)
{
	static const struct format_claim nobody;

	return label_shared(label) && !same_mount(&label->claim, &nobody);
}

static bool has_it(const struct format_label *label, const struct format_claim *by)
{
	return is_held(label) && same_mount(&label->claim, by);
}

static bool same_machine(const struct format_claim *a, const struct format_claim *b)
{
	static const uint8_t unknown[sizeof(a->machine)];

	return memcmp(a->machine, unknown, sizeof(unknown)) && !memcmp(a->machine, b->machine, sizeof(unknown));
}

void claim_make(struct format_claim *claim, const struct mirror_options *options)
{
	uint64_t beat_ms = (options->heartbeat_ns ? options->heartbeat_ns : BEAT_NS) / NSEC_PER_MSEC;
	struct uuid mount = uuid_random();
	int64_t seconds;
	uint32_t nanoseconds;

	clock_wall(&seconds, &nanoseconds);
	*claim = (struct format_claim){
		.since_seconds = le64_of((uint64_t)seconds),
		.beat_ms = le32_of((uint32_t)beat_ms),
		.fence_ms = le32_of((uint32_t)(beat_ms * FENCE_BEATS)),
		.wait_ms = le32_of((uint32_t)(beat_ms * FENCE_BEATS * claim_wait_fences)),
	};
	memcpy(claim->mount, mount.bytes, sizeof(claim->mount));
	memcpy(claim->machine, options->host.machine, sizeof(claim->machine));
	memcpy(claim->boot, options->host.boot, sizeof(claim->boot));
	snprintf((char *)claim->host, sizeof(claim->host), "%s", options->host.name);
}

static uint64_t time_ns(le32 ms)
{
	uint32_t value = le32_get(ms);

	value = value < SHORTEST_MS ? SHORTEST_MS : value > LONGEST_MS ? LONGEST_MS : value;
	return value * NSEC_PER_MSEC;
}

static const char *when(uint64_t seconds_since_1970, char text[32])
{
	time_t seconds = (time_t)seconds_since_1970;
	struct tm tm = {.tm_year = 70};

	gmtime_r(&seconds, &tm);
	strftime(text, 32, "%Y-%m-%d %H:%M:%S UTC", &tm);
	return text;
}

/* "HOST since DATE" */
static const char *holder(const struct format_claim *claim, char text[128])
{
	char since[32];

	snprintf(text, 128, "%.51s since %s", claim->host[0] ? (const char *)claim->host : "a machine without a name",
		 when(le64_get(claim->since_seconds), since));
	return text;
}

/* ---- taking ---- */

struct look_at {
	struct leg *leg;
	struct format_label label;
	bool shared, held;
};

static void nap(uint64_t ns)
{
	uint64_t until_ns = clock_now_ns() + ns;
	struct mutex lock;
	struct cond cond;

	mutex_init(&lock, RANK_LEAF);
	cond_init(&cond);
	mutex_lock(&lock);
	while (cond_wait_until(&cond, &lock, until_ns))
		;
	mutex_unlock(&lock);
	cond_fini(&cond);
	mutex_fini(&lock);
}

static int look_at(struct look_at *look, struct leg *leg, const struct format_claim *by, bool shared,
		   struct error *error)
{
	int code = label_read(leg, &look->label, error);

	if (code)
		return code;
	look->leg = leg;
	look->shared = shared || leg_geometry(leg)->shared || label_shared(&look->label);
	look->held = is_held(&look->label) && !same_mount(&look->label.claim, by);
	return 0;
}

/* Has anybody written a label with a claim since? One that is let go may be taken. */
static int look_again(struct look_at *look, struct error *error)
{
	struct format_label now;
	char text[128];
	int code = label_read(look->leg, &now, error);

	if (code)
		return code;
	if (!memcmp(&now, &look->label, sizeof(now)))
		return 0;
	if (!is_held(&now)) {
		look->label = now;
		look->held = false;
		return 0;
	}
	return error_set(error, -EBUSY, "%s is in use on another machine, or twice on this one: by %s",
			 leg_path(look->leg), holder(&now.claim, text));
}

/* 0: none of those that are held was written for so long; -EBUSY. */
static int watch(struct look_at *looks, int count, bool read_only, struct error *error)
{
	uint64_t begun_ns = clock_now_ns(), limit_ns = 0, elapsed_ns;
	char text[128];
	int code = 0;

	for (int i = 0; i < count; i++) {
		const struct format_claim *claim = &looks[i].label.claim;
		uint64_t needed_ns = time_ns(read_only ? claim->fence_ms : claim->wait_ms);

		if (!looks[i].held)
			continue;
		if (limit_ns < needed_ns)
			limit_ns = needed_ns;
		log_info("watching whether the claim is kept up, for %" PRIu64 " s: path=%s claimed_by=\"%s\"",
			 needed_ns / NSEC_PER_SEC, leg_path(looks[i].leg), holder(claim, text));
	}
	if (!limit_ns)
		return 0;
	do {
		nap(limit_ns / LOOKS);
		elapsed_ns = clock_now_ns() - begun_ns;
		for (int i = 0; i < count && !code; i++)
			code = looks[i].held ? look_again(&looks[i], error) : 0;
	} while (!code && elapsed_ns < limit_ns);
	return code;
}

static int refuse(const struct look_at *look, const char *way_out, struct error *error)
{
	const struct format_claim *claim = &look->label.claim;
	char text[128], last[32];

	return error_set(error, -EBUSY,
			 "%s is claimed by %s, last heard of %s: unmount it there; if that machine is dead, %s takes "
			 "it over after a watch of %" PRIu64 " s",
			 leg_path(look->leg), holder(claim, text), when(le64_get(look->label.written_seconds), last),
			 way_out, time_ns(claim->wait_ms) / NSEC_PER_SEC);
}

/* Both slots, so that who had it finds that out wherever he looks. *begun_ns: what the new claim is counted from. */
static int put(struct look_at *look, const struct format_claim *by, uint64_t until_ns, uint64_t *begun_ns,
	       struct error *error)
{
	struct format_label label;
	int code = look_again(look, error);

	label = look->label;
	label_set_claim(&label, by);
	for (int slot = 0; slot < LABEL_SLOTS && !code; slot++) {
		*begun_ns = clock_boot_ns();
		code = *begun_ns < until_ns ? label_write_wait(look->leg, &label) : -ETIMEDOUT;
	}
	if (!code && clock_boot_ns() >= until_ns)
		code = -ETIMEDOUT;
	return code ? error_set(error, code, "%s cannot be claimed%s: %s", leg_path(look->leg),
				code == -ETIMEDOUT ? " in time" : "", strerror(-code)) :
		      0;
}

static int take(struct look_at *looks, int count, const struct format_claim *by, uint64_t *begun_ns,
		struct error *error)
{
	uint64_t until_ns = clock_boot_ns() + claim_settle_ns;
	char text[128];
	int code = 0;

	for (int i = 0; i < count && !code; i++)
		code = looks[i].shared ? put(&looks[i], by, until_ns, &begun_ns[i], error) : 0;
	if (!code)
		nap(claim_settle_ns);
	for (int i = 0; i < count && !code; i++) {
		struct format_label label;

		if (!looks[i].shared)
			continue;
		code = label_read(looks[i].leg, &label, error);
		if (!code && !has_it(&label, by))
			code = error_set(error, -EBUSY, "%s was claimed at the same time by %s",
					 leg_path(looks[i].leg), holder(&label.claim, text));
	}
	return code;
}

int claim_take(struct leg *legs[MIRROR_LEGS], const struct format_claim *by, const struct mirror_options *options,
	       const char *way_out, uint64_t begun_ns[MIRROR_LEGS], struct error *error)
{
	struct look_at looks[MIRROR_LEGS];
	bool shared = false;
	int count = 0, code = 0;

	begun_ns[0] = begun_ns[1] = 0;
	for (; count < MIRROR_LEGS && legs[count] && !code; count++) {
		code = look_at(&looks[count], legs[count], by, options->shared, error);
		shared |= !code && looks[count].shared;
		if (!code && looks[count].held && !options->takeover && !same_machine(&looks[count].label.claim, by))
			code = refuse(&looks[count], way_out, error);
	}
	if (code || !shared)
		return code;
	code = watch(looks, count, options->read_only, error);
	if (code || options->read_only)
		return code;
	code = take(looks, count, by, begun_ns, error);
	for (int i = 0; i < count && code; i++)
		if (begun_ns[i])
			claim_drop(legs[i], by, begun_ns[i]);
	return code;
}

bool claim_lasts(const struct format_claim *claim, uint64_t begun_ns)
{
	return clock_boot_ns() < begun_ns + time_ns(claim->fence_ms);
}

/* As any other label: one that is on its way when others may take the leg would set it free behind their backs. */
void claim_drop(struct leg *leg, const struct format_claim *by, uint64_t begun_ns)
{
	struct format_label label;
	int code = label_read(leg, &label, NULL);

	if (!code && !has_it(&label, by))
		return;
	memset(&label.claim, 0, sizeof(label.claim));
	if (!code)
		code = claim_lasts(by, begun_ns) ? label_write_wait(leg, &label) : -ETIMEDOUT;
	if (code)
		log_warn("the claim is not given back, so who mounts next has to wait: path=%s reason=\"%s\"",
			 leg_path(leg), strerror(-code));
}

int mirror_claim_silent(struct leg *leg, struct error *error)
{
	static const struct format_claim nobody;
	struct look_at look;
	int code = look_at(&look, leg, &nobody, false, error);

	return code ? code : watch(&look, 1, false, error);
}

/* ---- keeping ---- */

void claim_begin_locked(struct mirror *mirror, int leg, uint64_t begun_ns)
{
	struct mirror_leg *mine = &mirror->legs[leg];

	mine->claim.on = begun_ns;
	mine->claim.renewed_ns = begun_ns;
	mine->claim.answered = false;
	mine->claim.until_ns = begun_ns ? begun_ns + time_ns(mirror->claim.fence_ms) : CLOCK_NEVER;
	mine->claim.due_ns = clock_boot_ns();
	mine->relabel.begun_ns = begun_ns;
	cond_signal(&mirror->kick);
}

void claim_renewed_locked(struct mirror *mirror, int leg, uint64_t begun_ns)
{
	struct mirror_leg *mine = &mirror->legs[leg];

	/* What was lost stays so: others may have counted on it. */
	if (!mine->claim.on || clock_boot_ns() >= mine->claim.until_ns)
		return;
	mine->claim.renewed_ns = begun_ns;
	mine->claim.until_ns = begun_ns + time_ns(mirror->claim.fence_ms);
}

static void lose_locked(struct mirror *mirror, int leg, const char *why)
{
	struct mirror_leg *mine = &mirror->legs[leg];

	mine->claim.until_ns = 0;
	mine->claim.renewed_ns = 0;
	if (mine->state == MIRROR_STALE)
		state_set_locked(mirror, leg, MIRROR_OFFLINE, "%s", why);
	else if (relabel_has_locked(mirror, leg) && !leg_out_locked(mirror, leg, "%s", why))
		volume_fail_locked(mirror, "read-only by error: leg %d is no longer ours to write: leg=%d path=%s "
				   "reason=\"%s\"",
				   leg, leg, leg_path(mine->leg), why);
	cond_broadcast(&mirror->idle);
}

static bool holds(const struct mirror_leg *mine)
{
	return mine->claim.until_ns == CLOCK_NEVER || clock_boot_ns() < mine->claim.until_ns;
}

bool claim_holds_locked(struct mirror *mirror, int leg)
{
	char why[128];

	if (holds(&mirror->legs[leg]))
		return true;
	snprintf(why, sizeof(why), "its claim was not renewed for %" PRIu64 " s, so another machine may have it",
		 time_ns(mirror->claim.fence_ms) / NSEC_PER_SEC);
	lose_locked(mirror, leg, why);
	return false;
}

bool claim_holds(struct mirror *mirror, int leg)
{
	bool is = holds(&mirror->legs[leg]);

	if (is)
		return true;
	mutex_lock(&mirror->lock);
	is = claim_holds_locked(mirror, leg);
	mutex_unlock(&mirror->lock);
	return is;
}

/* A mount that only reads, or is yet to be admitted, writes no labels. */
static bool beats(const struct mirror *mirror, int leg)
{
	return mirror->legs[leg].claim.on && relabel_has_locked(mirror, leg) && !mirror->failed && !mirror->stopping &&
	       !mirror->options.read_only;
}

uint64_t claim_next_locked(const struct mirror *mirror)
{
	uint64_t next_ns = CLOCK_NEVER, boot_ns = 0;

	for (int leg = 0; leg < MIRROR_LEGS; leg++) {
		const struct claim *claim = &mirror->legs[leg].claim;
		uint64_t at_ns = claim->until_ns;

		if (!beats(mirror, leg))
			continue;
		boot_ns = clock_boot_ns();
		if (!claim->flying && claim->due_ns < at_ns)
			at_ns = claim->due_ns;
		if (at_ns < next_ns)
			next_ns = at_ns;
	}
	return next_ns == CLOCK_NEVER ? next_ns : clock_now_ns() + (next_ns > boot_ns ? next_ns - boot_ns : 0);
}

static void answered(struct leg_io *io)
{
	struct claim *claim = io->context;
	struct mirror *mirror = claim->mirror;

	mutex_lock(&mirror->lock);
	claim->flying = false;
	claim->answered = true;
	claim->error = io->error;
	cond_signal(&mirror->kick);
	cond_broadcast(&mirror->idle);
	mutex_unlock(&mirror->lock);
}

void claim_tell_locked(const struct mirror *mirror, int leg, struct mirror_claim *told)
{
	const struct claim *claim = &mirror->legs[leg].claim;
	uint64_t now_ns = clock_boot_ns(), until_ns = claim->until_ns;

	told->on = claim->on && mirror->legs[leg].leg;
	if (!told->on)
		return;
	told->since_seconds = le64_get(mirror->claim.since_seconds);
	told->beat_ns = time_ns(mirror->claim.beat_ms);
	told->left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
}

/* Before the beat: is the last label that was written still there? */
static void read_back(struct mirror *mirror, int leg)
{
	struct mirror_leg *mine = &mirror->legs[leg];
	struct claim *claim = &mine->claim;
	int error;

	claim->io = (struct leg_io){.op = LEG_READ,
				    .offset = le64_get(mine->label.address),
				    .length = LABEL_SIZE,
				    .data = claim->image,
				    .done = answered,
				    .context = claim};
	claim->sequence = le64_get(mine->label.sequence);
	claim->begun_ns = mine->relabel.begun_ns;
	claim->flying = true;
	mutex_unlock(&mirror->lock);
	error = leg_submit(mine->leg, &claim->io);
	mutex_lock(&mirror->lock);
	if (error) {
		claim->flying = false;
		claim->answered = true;
		claim->error = error;
	}
}

/*
 * Another one's label there ends it. Ours renews the claim; an older one of ours does not: the leg has lost a write. A
 * copy that rots is written anew by the beat. Where the leg does not answer there is none, and time passes.
 */
static void judge_locked(struct mirror *mirror, int leg)
{
	struct mirror_leg *mine = &mirror->legs[leg];
	const struct format_label *found = mine->claim.image;
	enum leg_verdict verdict = leg_classify(LEG_READ, mine->claim.error);
	bool sound = verdict == LEG_OK && label_sound(found, mine->claim.io.offset);
	char why[192], text[128];

	if (!beats(mirror, leg))
		return;
	if (sound && !has_it(found, &mirror->claim)) {
		if (is_held(found))
			snprintf(why, sizeof(why), "another machine has taken it: %s", holder(&found->claim, text));
		else
			snprintf(why, sizeof(why), "its claim was wiped");
		lose_locked(mirror, leg, why);
		return;
	}
	if (sound && le64_get(found->sequence) == mine->claim.sequence)
		claim_renewed_locked(mirror, leg, mine->claim.begun_ns);
	if (verdict == LEG_OK || verdict == LEG_MEDIA)
		relabel_want_locked(mirror, leg);
}

static bool leg_work(struct mirror *mirror, int leg)
{
	struct mirror_leg *mine = &mirror->legs[leg];
	uint64_t now_ns;

	if (mine->claim.answered) {
		mine->claim.answered = false;
		judge_locked(mirror, leg);
		return true;
	}
	if (!beats(mirror, leg))
		return false;
	if (!claim_holds_locked(mirror, leg))
		return true;
	now_ns = clock_boot_ns();
	if (mine->claim.flying || now_ns < mine->claim.due_ns)
		return false;
	mine->claim.due_ns = now_ns + time_ns(mirror->claim.beat_ms);
	/* A label on its way is a beat itself. */
	if (mine->relabel.durable == mine->relabel.wanted && !mine->relabel.flying)
		read_back(mirror, leg);
	return true;
}

bool claim_work_locked(struct mirror *mirror)
{
	bool worked = false;

	for (int leg = 0; leg < MIRROR_LEGS; leg++)
		worked |= leg_work(mirror, leg);
	return worked;
}
