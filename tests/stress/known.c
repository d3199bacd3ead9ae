/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "known.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Names of all lengths; the last one is as long as there are. */
static void name_of(int name, char text[256])
{
	static const unsigned int lengths[KNOWN_NAMES] = { 1, 2, 3, 8, 11, 12, 30, 100, 200, 255 };

	memset(text, 'a' + name, lengths[name]);
	text[lengths[name]] = '\0';
}

static size_t path_put(const struct file *dir, char *path)
{
	size_t at;

	if (!dir->parent)
		return 0;
	at = path_put(dir->parent, path);
	for (int i = 0; i < KNOWN_NAMES; i++) {
		if (dir->parent->entries[i] == dir) {
			name_of(i, path + at);
			at += strlen(path + at);
			break;
		}
	}
	path[at] = '/';
	return at + 1;
}

const char *known_path(struct place place)
{
	static char paths[4][KNOWN_PATH];
	static unsigned int next;
	char *path = paths[next++ % 4];

	name_of(place.name, path + path_put(place.dir, path));
	return path;
}

struct file *known_some(struct known *known, mode_t type)
{
	struct file *found[KNOWN_FILES];
	unsigned int count = 0;

	for (unsigned int i = 0; i < KNOWN_FILES; i++) {
		struct file *file = known->files[i];

		if (file && file->links && (!type || (file->mode & S_IFMT) == type) && (i || type == S_IFDIR))
			found[count++] = file;
	}
	return count ? found[below(known, count)] : NULL;
}

struct place known_place(struct known *known)
{
	return (struct place){ known_some(known, S_IFDIR), (int)below(known, KNOWN_NAMES) };
}

struct place known_place_of(struct known *known, const struct file *file)
{
	struct place found[KNOWN_FILES * KNOWN_NAMES];
	unsigned int count = 0;

	for (unsigned int i = 0; i < KNOWN_FILES; i++)
		for (int n = 0; known->files[i] && n < KNOWN_NAMES; n++)
			if (known->files[i]->entries[n] == file)
				found[count++] = (struct place){ known->files[i], n };
	return found[below(known, count)];
}

struct file *known_new(struct known *known, mode_t mode)
{
	for (unsigned int i = 0; i < KNOWN_FILES; i++) {
		if (known->files[i])
			continue;
		known->files[i] = calloc(1, sizeof(struct file));
		known->files[i]->mode = mode;
		known->files[i]->links = S_ISDIR(mode) ? 2 : 1;
		known->files[i]->fd = -1;
		if (S_ISREG(mode))
			known->files[i]->data = calloc(1, KNOWN_SIZE_MAX);
		return known->files[i];
	}
	return NULL;
}

void known_drop(struct known *known, struct file *file)
{
	if (file->links || file->fd >= 0)
		return;
	for (unsigned int i = 0; i < KNOWN_FILES; i++)
		if (known->files[i] == file)
			known->files[i] = NULL;
	for (int i = 0; i < KNOWN_XATTRS; i++)
		free(file->xattrs[i].bytes);
	free(file->data);
	free(file);
}

void known_expect(struct known *known, const char *what, long result, int error)
{
	if (result >= 0 ? error : errno != error)
		worker_fail(known->worker, "%s: %s where it should be %s", what, result >= 0 ? "done" : strerror(errno),
			    error ? strerror(error) : "done");
}

static struct known *known_begin(struct worker *worker)
{
	struct known *known = calloc(1, sizeof(*known));

	known->worker = worker;
	known->piece = malloc(KNOWN_SIZE_MAX);
	known->files[0] = known_new(known, S_IFDIR | 0755);
	return known;
}

/* Everything that has a name, or is open. */
static void check_all(struct known *known)
{
	worker_note(known->worker, "everything is compared");
	for (unsigned int i = 0; i < KNOWN_FILES; i++) {
		struct file *file = known->files[i];

		if (file && file->fd >= 0)
			content_check(known, file, file->fd);
		if (!file || !S_ISDIR(file->mode))
			continue;
		names_list(known, file);
		for (int n = 0; n < KNOWN_NAMES; n++) {
			struct place place = { file, n };
			int fd;

			names_check(known, place);
			if (!file->entries[n] || !S_ISREG(file->entries[n]->mode))
				continue;
			fd = open(known_path(place), O_RDONLY);
			known_expect(known, "open to compare", fd, 0);
			content_check(known, file->entries[n], fd);
			close(fd);
		}
	}
}

/* What is open may keep a filesystem from being unmounted. */
static void close_all(struct known *known)
{
	for (unsigned int i = 0; i < KNOWN_FILES; i++) {
		struct file *file = known->files[i];

		if (!file || file->fd < 0)
			continue;
		close(file->fd);
		file->fd = -1;
		known_drop(known, file);
	}
}

static void look(struct known *known)
{
	struct place place = known_place(known);

	worker_note(known->worker, "look");
	names_check(known, place);
	if (below(known, 2))
		names_list(known, place.dir);
}

void *known_round(struct worker *worker, void *state, bool (*goes_on)(void))
{
	static const struct {
		unsigned int weight;
		void (*run)(struct known *known);
	} doings[] = {
		{ 8, names_create }, { 4, names_remove },     { 6, names_rename },   { 3, names_link },
		{ 6, look },	     { 6, names_attribute },  { 30, content_change }, { 20, content_read },
		{ 2, content_hold },
	};
	struct known *known = state ? state : known_begin(worker);

	check_all(known);
	for (unsigned int i = 0; i % 16 || goes_on(); i++) {
		uint64_t draw = below(known, 85);
		size_t at = 0;

		while (draw >= doings[at].weight)
			draw -= doings[at++].weight;
		doings[at].run(known);
	}
	check_all(known);
	close_all(known);
	return known;
}
