/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parser of fault rules: what it does not understand it refuses, naming the word and what would do. */
#include "fault_private.h"

#include "mirrorfs/base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FAULT_LATCH_MAX (UINT64_C(64) << 30) /* bytes: 2 MiB of bits */
#define FAULT_ERRNO_MAX 200

#define OP(op) (1u << (op))
#define OPS_DATA (OP(LEG_READ) | OP(LEG_WRITE))
#define OPS_ALL (OPS_DATA | OP(LEG_FLUSH) | OP(LEG_DISCARD))

static const struct {
	const char *name;
	unsigned int ops;
} fault_ops[] = {
	{ "read", OP(LEG_READ) },	{ "write", OP(LEG_WRITE) }, { "flush", OP(LEG_FLUSH) },
	{ "discard", OP(LEG_DISCARD) }, { "any", OPS_ALL },
};

/* To which operations an effect can be done. */
static const unsigned int fault_effect_ops[FAULT_EFFECTS] = {
	[FAULT_NONE] = OPS_ALL,
	[FAULT_ERROR] = OPS_ALL,
	[FAULT_HANG] = OPS_ALL,
	[FAULT_ALIGN] = OPS_DATA,
	[FAULT_DROP] = OPS_ALL & ~OP(LEG_READ),
	[FAULT_TORN] = OP(LEG_WRITE),
	[FAULT_SHORT] = OPS_DATA,
	[FAULT_CORRUPT] = OP(LEG_READ),
	[FAULT_MISDIRECT] = OPS_DATA,
	[FAULT_LOST] = OPS_ALL & ~OP(LEG_READ),
};

static const char *const fault_effect_names[FAULT_EFFECTS] = {
	[FAULT_NONE] = "delay", [FAULT_ERROR] = "error", [FAULT_HANG] = "hang",	      [FAULT_ALIGN] = "align",
	[FAULT_DROP] = "drop",	[FAULT_TORN] = "torn",	 [FAULT_SHORT] = "short",     [FAULT_CORRUPT] = "corrupt",
	[FAULT_MISDIRECT] = "misdirect", [FAULT_LOST] = "lost",
};

#define FAULT_WORDS                                                                                                   \
	"error= delay= hang align= drop torn= short= corrupt misdirect= lost range= after= count= chance= latch when="

/* A number with K, M, G or T (powers of 1024); `end` is left behind it. */
static bool fault_number(const char *text, const char **end, uint64_t *value)
{
	static const char suffixes[] = "KMGT";
	const char *suffix;
	char *behind;

	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	*value = strtoull(text, &behind, 0);
	if (errno)
		return false;
	suffix = *behind ? strchr(suffixes, toupper((unsigned char)*behind)) : NULL;
	if (suffix) {
		unsigned int shift = 10 * (unsigned int)(suffix - suffixes + 1);

		if (*value > (uint64_t)INT64_MAX >> shift)
			return false;
		*value <<= shift;
		behind++;
	}
	*end = behind;
	return *value <= INT64_MAX;
}

static bool fault_whole_number(const char *text, uint64_t *value)
{
	const char *end;

	return fault_number(text, &end, value) && !*end;
}

static bool fault_errno(const char *text, int *error)
{
	uint64_t number;

	if (fault_whole_number(text, &number)) {
		*error = -(int)number;
		return number > 0 && number < 4096;
	}
	for (int i = 1; i < FAULT_ERRNO_MAX; i++) {
		const char *name = strerrorname_np(i);

		if (name && !strcasecmp(name, text)) {
			*error = -i;
			return true;
		}
	}
	return false;
}

static bool fault_range(const char *text, struct fault_rule *rule)
{
	rule->ranged = true;
	rule->end = INT64_MAX;
	return fault_number(text, &text, &rule->from) && *text == '-' &&
	       (!text[1] || fault_whole_number(text + 1, &rule->end)) && rule->from < rule->end;
}

static bool fault_shift(const char *text, int64_t *shift)
{
	bool back = *text == '-';
	uint64_t value;

	if (!fault_whole_number(text + (back || *text == '+'), &value) || !value)
		return false;
	*shift = back ? -(int64_t)value : (int64_t)value;
	return true;
}

/* Gives the rule its effect; a second one is refused by name. */
static int fault_take_effect(struct fault_rule *rule, enum fault_effect effect, struct error *error)
{
	if (rule->effect != FAULT_NONE)
		return error_set(error, -EINVAL, "fault rules: `%s` and `%s` do not go into one rule",
				 fault_effect_names[rule->effect], fault_effect_names[effect]);
	rule->effect = effect;
	return 0;
}

static bool fault_effect_value(struct fault_rule *rule, const char *value)
{
	switch (rule->effect) {
	case FAULT_ERROR:
		return value && fault_errno(value, &rule->error);
	case FAULT_ALIGN:
		return value && fault_whole_number(value, &rule->amount) && rule->amount;
	case FAULT_TORN:
	case FAULT_SHORT:
		return value && fault_whole_number(value, &rule->amount);
	case FAULT_MISDIRECT:
		return value && fault_shift(value, &rule->shift);
	default:
		return !value;
	}
}

/* A key that is no effect. */
static bool fault_condition(struct fault_rule *rule, const char *key, const char *value, bool *known)
{
	*known = true;
	if (!strcmp(key, "latch")) {
		rule->latch = true;
		return !value;
	}
	if (!strcmp(key, "range"))
		return value && fault_range(value, rule);
	if (!strcmp(key, "after"))
		return value && fault_whole_number(value, &rule->after);
	if (!strcmp(key, "count"))
		return value && fault_whole_number(value, &rule->count) && rule->count;
	if (!strcmp(key, "chance"))
		return value && fault_whole_number(value, &rule->chance) && rule->chance;
	if (!strcmp(key, "delay")) {
		if (!value || !fault_whole_number(value, &rule->delay_ns) || rule->delay_ns > UINT32_MAX)
			return false;
		rule->delay_ns *= NSEC_PER_MSEC;
		return true;
	}
	if (!strcmp(key, "when")) {
		free(rule->when);
		rule->when = value && *value ? strdup(value) : NULL;
		return rule->when;
	}
	*known = false;
	return false;
}

static int fault_parse_key(struct fault_rule *rule, char *word, struct error *error)
{
	char *value = strchr(word, '=');
	bool known, good;
	int result;

	if (value)
		*value++ = 0;
	good = fault_condition(rule, word, value, &known);
	for (enum fault_effect effect = FAULT_ERROR; !known && effect < FAULT_EFFECTS; effect++) {
		if (strcmp(word, fault_effect_names[effect]))
			continue;
		known = true;
		result = fault_take_effect(rule, effect, error);
		if (result)
			return result;
		good = fault_effect_value(rule, value);
	}
	if (!known)
		return error_set(error, -EINVAL, "fault rules: `%s` is not known; allowed are %s", word, FAULT_WORDS);
	if (good)
		return 0;
	if (value)
		return error_set(error, -EINVAL, "fault rules: `%s` is no value for `%s`", value, word);
	return error_set(error, -EINVAL, "fault rules: `%s` needs a value", word);
}

static int fault_parse_op(struct fault_rule *rule, const char *word, struct error *error)
{
	for (size_t i = 0; i < sizeof(fault_ops) / sizeof(fault_ops[0]); i++) {
		if (!strcmp(word, fault_ops[i].name)) {
			rule->ops = fault_ops[i].ops;
			return 0;
		}
	}
	return error_set(error, -EINVAL, "fault rules: a rule begins with read, write, flush, discard or any, not `%s`",
			 word);
}

bool fault_rule_latched(const struct fault_rule *rule, uint64_t block)
{
	uint64_t bit = block - rule->from / FAULT_BLOCK;

	return block >= rule->from / FAULT_BLOCK && block <= (rule->end - 1) / FAULT_BLOCK &&
	       rule->latched[bit / 8] & 1u << bit % 8;
}

void fault_rule_heal(struct fault_rule *rule, uint64_t block)
{
	uint64_t bit = block - rule->from / FAULT_BLOCK;

	if (fault_rule_latched(rule, block))
		rule->latched[bit / 8] &= (unsigned char)~(1u << bit % 8);
}

/* The bad blocks of a latch: all of its range, or one in `chance` of them, drawn once. */
static int fault_make_latch(struct fault_rule *rule, struct error *error)
{
	uint64_t blocks, bytes;
	uint32_t draws[256];

	if (!rule->ranged || !(rule->ops & OP(LEG_READ)) ||
	    (rule->effect != FAULT_ERROR && rule->effect != FAULT_CORRUPT))
		return error_set(error, -EINVAL, "fault rules: `latch` needs read, range= and error= or corrupt");
	blocks = (rule->end - 1) / FAULT_BLOCK - rule->from / FAULT_BLOCK + 1;
	if (blocks > FAULT_LATCH_MAX / FAULT_BLOCK)
		return error_set(error, -EINVAL, "fault rules: the range of a `latch` is at most 64G");
	bytes = (blocks + 7) / 8;
	rule->latched = malloc(bytes);
	if (!rule->latched)
		return error_set(error, -ENOMEM, "fault rules: no memory for a `latch`");
	memset(rule->latched, rule->chance ? 0 : 0xff, bytes);
	for (uint64_t bit = 0; rule->chance && bit < blocks; bit++) {
		if (bit % 256 == 0)
			random_bytes(draws, sizeof(draws));
		if (draws[bit % 256] % rule->chance == 0)
			rule->latched[bit / 8] |= (unsigned char)(1u << bit % 8);
	}
	rule->chance = 0;
	rule->ops = OP(LEG_READ);
	return 0;
}

/* What only the whole rule shows. */
static int fault_rule_check(struct fault_rule *rule, const char *op, const struct leg_geometry *geometry,
			    struct error *error)
{
	if (rule->effect == FAULT_NONE && rule->latch) {
		rule->effect = FAULT_ERROR;
		rule->error = -EIO;
	}
	if (rule->effect == FAULT_NONE && !rule->delay_ns)
		return error_set(error, -EINVAL, "fault rules: `%s` alone does nothing; say what, by one of %s", op,
				 FAULT_WORDS);
	if (!(rule->ops & fault_effect_ops[rule->effect]))
		return error_set(error, -EINVAL, "fault rules: `%s` does not go with `%s`",
				 fault_effect_names[rule->effect], op);
	rule->ops &= fault_effect_ops[rule->effect];
	if (rule->ranged) {
		if (rule->end > geometry->size_bytes && rule->latch)
			rule->end = geometry->size_bytes;
		rule->ops &= ~OP(LEG_FLUSH);
		if (!rule->ops || rule->from >= rule->end)
			return error_set(error, -EINVAL, "fault rules: `range` does not go with `%s` here", op);
	}
	if (rule->effect == FAULT_MISDIRECT && rule->shift % (int64_t)geometry->block_size)
		return error_set(error, -EINVAL, "fault rules: `misdirect` must be a multiple of %u here",
				 geometry->block_size);
	return rule->latch ? fault_make_latch(rule, error) : 0;
}

static void fault_rule_free(struct fault_rule *rule)
{
	free(rule->when);
	free(rule->latched);
	free(rule);
}

static int fault_parse_rule(char *text, const struct leg_geometry *geometry, struct fault_rules *rules,
			    struct error *error)
{
	struct fault_rule *rule = calloc(1, sizeof(*rule));
	char *op = strsep(&text, ","), *word;
	int result;

	if (!rule)
		return error_set(error, -ENOMEM, "fault rules: no memory");
	result = fault_parse_op(rule, op, error);
	while (!result && (word = strsep(&text, ",")))
		result = fault_parse_key(rule, word, error);
	if (!result)
		result = fault_rule_check(rule, op, geometry, error);
	if (result)
		fault_rule_free(rule);
	else
		STAILQ_INSERT_TAIL(rules, rule, link);
	return result;
}

int fault_rules_parse(const char *text, const struct leg_geometry *geometry, struct fault_rules *rules,
		      struct error *error)
{
	char *copy = strdup(text), *rest = copy, *one;
	int result = 0;

	STAILQ_INIT(rules);
	if (!copy)
		return error_set(error, -ENOMEM, "fault rules: no memory");
	/* Empty rules are no mistake: nothing goes wrong then, until others are set. */
	while (!result && (one = strsep(&rest, ";"))) {
		if (*one)
			result = fault_parse_rule(one, geometry, rules, error);
	}
	free(copy);
	if (result)
		fault_rules_free(rules);
	return result;
}

void fault_rules_free(struct fault_rules *rules)
{
	struct fault_rule *rule;

	while ((rule = STAILQ_FIRST(rules))) {
		STAILQ_REMOVE_HEAD(rules, link);
		fault_rule_free(rule);
	}
}
