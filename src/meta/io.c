/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Plain reads and writes of the mirrored space by a thread that may wait and holds no buffer. */
#include "meta_private.h"

#include <string.h>

unsigned int io_only(int leg)
{
	return leg ? MIRROR_ONLY_LEG1 : MIRROR_ONLY_LEG0;
}

int io_read(struct mirror *mirror, unsigned int flags, uint64_t block, void *bytes, size_t size)
{
	struct mirror_io io = { .op = MIRROR_READ, .flags = flags, .block = block };
	int error;

	io.count = (uint32_t)(size / FORMAT_BLOCK);
	io.buf = iobuf_get(mirror_pool(mirror), size);
	error = mirror_submit_wait(mirror, &io);
	if (!error)
		memcpy(bytes, io.buf->data + io.buf_offset, size);
	iobuf_put(io.buf);
	return error;
}

int io_write(struct mirror *mirror, unsigned int flags, uint64_t block, const void *bytes, size_t size)
{
	struct mirror_io io = { .op = MIRROR_WRITE, .flags = flags, .block = block };
	int error;

	io.count = (uint32_t)(size / FORMAT_BLOCK);
	io.buf = iobuf_get(mirror_pool(mirror), size);
	memcpy(io.buf->data, bytes, size);
	error = mirror_submit_wait(mirror, &io);
	iobuf_put(io.buf);
	return error;
}

int io_flush(struct mirror *mirror)
{
	struct mirror_io io = { .op = MIRROR_FLUSH };

	return mirror_submit_wait(mirror, &io);
}
