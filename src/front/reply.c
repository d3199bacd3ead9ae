/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Answers. The kernel may keep what it was told for as long as it likes: every change comes through it, so names,
 * attributes and the absence of a name stay true until it changes them itself. Only the number of blocks of a file
 * that is being written out is not final.
 *
 * An answer that the kernel refuses (the caller was killed meanwhile) was not taken: a lookup that it would have
 * counted is given back.
 */
#include "front_private.h"

#define FOREVER_SECONDS (86400.0 * 365)
#define PENDING_SECONDS 1.0

void reply_error(fuse_req_t req, int error)
{
	fuse_reply_err(req, -error);
}

double reply_attr_seconds(const struct fs_attr *attr)
{
	return attr->blocks_pending ? PENDING_SECONDS : FOREVER_SECONDS;
}

void reply_attr(fuse_req_t req, const struct fs_attr *attr)
{
	fuse_reply_attr(req, &attr->st, reply_attr_seconds(attr));
}

void reply_entry_fill(struct fuse_entry_param *entry, const struct fs_attr *attr)
{
	*entry = (struct fuse_entry_param){
		.ino = attr->st.st_ino,
		.generation = attr->generation,
		.attr = attr->st,
		.attr_timeout = reply_attr_seconds(attr),
		.entry_timeout = FOREVER_SECONDS,
	};
}

void reply_entry(fuse_req_t req, const struct fs_attr *attr)
{
	struct front *front = fuse_req_userdata(req);
	struct fuse_entry_param entry;

	reply_entry_fill(&entry, attr);
	if (fuse_reply_entry(req, &entry))
		fs_forget(front->fs, attr->st.st_ino, 1);
}

void reply_no_entry(fuse_req_t req)
{
	struct fuse_entry_param entry = { .entry_timeout = FOREVER_SECONDS };

	fuse_reply_entry(req, &entry);
}
