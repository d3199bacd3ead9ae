/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pins (I9 b). All pins taken between two stamps share one counted object, so taking one is an increment. A stamp
 * closes the current object; it has passed when every object up to it is gone.
 */
#include "mirror_private.h"

#include <assert.h>
#include <stdlib.h>

void pins_init(struct mirror *mirror)
{
	mutex_init(&mirror->pins.lock, RANK_LEAF);
	TAILQ_INIT(&mirror->pins.list);
	mirror->pins.generation = 1;
}

void pins_fini(struct mirror *mirror)
{
	assert(TAILQ_EMPTY(&mirror->pins.list));
	mutex_fini(&mirror->pins.lock);
}

struct mirror_pin *mirror_pin(struct mirror *mirror)
{
	struct pins *pins = &mirror->pins;
	struct mirror_pin *pin;

	mutex_lock(&pins->lock);
	pin = TAILQ_LAST(&pins->list, pin_list);
	if (!pin || pin->generation != pins->generation) {
		struct mirror_pin *made = calloc(1, sizeof(*made));

		/* Without memory an older pin serves as well: it holds more than is needed. */
		if (!made && !pin)
			made = &pins->reserve;
		if (made) {
			*made = (struct mirror_pin){.mirror = mirror, .generation = pins->generation};
			TAILQ_INSERT_TAIL(&pins->list, made, entry);
			pin = made;
		}
	}
	pin->refs++;
	mutex_unlock(&pins->lock);
	return pin;
}

void mirror_pin_ref(struct mirror_pin *pin)
{
	mutex_lock(&pin->mirror->pins.lock);
	assert(pin->refs > 0);
	pin->refs++;
	mutex_unlock(&pin->mirror->pins.lock);
}

void mirror_pin_put(struct mirror_pin *pin)
{
	struct pins *pins = &pin->mirror->pins;

	mutex_lock(&pins->lock);
	assert(pin->refs > 0);
	if (--pin->refs == 0) {
		TAILQ_REMOVE(&pins->list, pin, entry);
		if (pin != &pins->reserve)
			free(pin);
	}
	mutex_unlock(&pins->lock);
}

uint64_t mirror_pin_stamp(struct mirror *mirror)
{
	uint64_t stamp;

	mutex_lock(&mirror->pins.lock);
	stamp = mirror->pins.generation++;
	mutex_unlock(&mirror->pins.lock);
	return stamp;
}

uint64_t mirror_pins_passed(struct mirror *mirror)
{
	struct mirror_pin *oldest;
	uint64_t passed;

	mutex_lock(&mirror->pins.lock);
	oldest = TAILQ_FIRST(&mirror->pins.list);
	passed = (oldest ? oldest->generation : mirror->pins.generation) - 1;
	mutex_unlock(&mirror->pins.lock);
	return passed;
}
