/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * POSIX access control lists. They are kept as the kernel hands them over, as extended attributes; the kernel decides
 * by them. Here is what ties them to modes: a mode and an access list say the same of the owner, of the mask (or the
 * group) and of others, whichever of the two was set; and a directory's default list becomes that of what is made
 * in it.
 */
#include "fs_private.h"

#include <errno.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/xattr.h>
#include <string.h>

static_assert(sizeof(struct posix_acl_xattr_header) == 4 && sizeof(struct posix_acl_xattr_entry) == 8, "the kernel's");

struct acl_entry {
	uint16_t tag, permissions;
};

static size_t acl_count(const struct acl *acl)
{
	return acl->size < sizeof(struct posix_acl_xattr_header)
		       ? 0
		       : (acl->size - sizeof(struct posix_acl_xattr_header)) / sizeof(struct posix_acl_xattr_entry);
}

static unsigned char *acl_at(const struct acl *acl, size_t i)
{
	return (unsigned char *)acl->bytes + sizeof(struct posix_acl_xattr_header) +
	       i * sizeof(struct posix_acl_xattr_entry);
}

/* Little-endian, wherever it runs. */
static struct acl_entry acl_entry(const struct acl *acl, size_t i)
{
	const unsigned char *at = acl_at(acl, i);

	return (struct acl_entry){ .tag = (uint16_t)(at[0] | at[1] << 8),
				   .permissions = (uint16_t)(at[2] | at[3] << 8) };
}

static void acl_set_permissions(struct acl *acl, size_t i, uint32_t permissions)
{
	acl_at(acl, i)[2] = permissions & 7;
}

bool acl_empty(const struct acl *acl)
{
	return acl->size <= sizeof(struct posix_acl_xattr_header);
}

/* Owner, users, group, groups, mask, others, in this order; a mask where there are users or groups. */
bool acl_valid(const struct acl *acl)
{
	static const uint16_t order[] = { ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ, ACL_GROUP, ACL_MASK, ACL_OTHER };
	size_t count = acl_count(acl), seen[6] = { 0 }, step = 0;

	if (acl->size != sizeof(struct posix_acl_xattr_header) + count * sizeof(struct posix_acl_xattr_entry) ||
	    acl->bytes[0] != POSIX_ACL_XATTR_VERSION || acl->bytes[1] || acl->bytes[2] || acl->bytes[3])
		return false;
	for (size_t i = 0; i < count; i++) {
		struct acl_entry entry = acl_entry(acl, i);

		while (step < 6 && order[step] != entry.tag)
			step++;
		if (step == 6 || entry.permissions > 7)
			return false;
		seen[step]++;
	}
	return seen[0] == 1 && seen[2] == 1 && seen[5] == 1 && seen[4] <= 1 && (seen[4] || !(seen[1] + seen[3]));
}

/* Where the group's bits of a mode go. */
static bool acl_is_group(const struct acl *acl, uint16_t tag)
{
	bool masked = false;

	for (size_t i = 0; i < acl_count(acl); i++)
		masked |= acl_entry(acl, i).tag == ACL_MASK;
	return tag == (masked ? ACL_MASK : ACL_GROUP_OBJ);
}

/* How far the bits of this entry are shifted in a mode; -1: they are not in it. */
static int acl_shift(const struct acl *acl, uint16_t tag)
{
	if (tag == ACL_USER_OBJ)
		return 6;
	if (tag == ACL_OTHER)
		return 0;
	return acl_is_group(acl, tag) ? 3 : -1;
}

uint32_t acl_mode(const struct acl *acl, uint32_t mode)
{
	mode &= ~(uint32_t)0777;
	for (size_t i = 0; i < acl_count(acl); i++) {
		struct acl_entry entry = acl_entry(acl, i);
		int shift = acl_shift(acl, entry.tag);

		if (shift >= 0)
			mode |= (uint32_t)entry.permissions << shift;
	}
	return mode;
}

bool acl_is_mode(const struct acl *acl)
{
	return acl_count(acl) == 3;
}

void acl_chmod(struct acl *acl, uint32_t mode)
{
	for (size_t i = 0; i < acl_count(acl); i++) {
		int shift = acl_shift(acl, acl_entry(acl, i).tag);

		if (shift >= 0)
			acl_set_permissions(acl, i, mode >> shift);
	}
}

/* ---- kept with an inode ---- */

int acl_find(struct inode *inode, const char *name, struct xattr *xattr, struct acl *acl)
{
	int error = xattr_find(inode, name, xattr);

	acl->size = 0;
	if (error)
		return error == -ENODATA || error == -ENOSPC ? 0 : error;
	if (xattr->length > sizeof(acl->bytes))
		return -EIO;
	error = xattr_read(inode, xattr, acl->bytes);
	if (error)
		return error;
	acl->size = xattr->length;
	return acl_valid(acl) ? 0 : -EIO;
}

int acl_inherit(struct inode *dir, uint32_t umask, uint32_t *mode, struct acl_inherited *inherited)
{
	uint32_t wanted = *mode;
	struct xattr xattr;
	int error;

	inherited->access.size = inherited->defaults.size = 0;
	if (S_ISLNK(*mode))
		return 0;
	error = acl_find(dir, XATTR_NAME_POSIX_ACL_DEFAULT, &xattr, &inherited->access);
	if (error)
		return error;
	if (acl_empty(&inherited->access)) {
		*mode &= ~(umask & 0777);
		return 0;
	}
	if (S_ISDIR(*mode))
		inherited->defaults = inherited->access;
	*mode = acl_mode(&inherited->access, wanted) & (wanted | ~(uint32_t)0777);
	acl_chmod(&inherited->access, *mode);
	if (acl_is_mode(&inherited->access))
		inherited->access.size = 0;
	return 0;
}

void acl_put_inherited(struct meta_txn *txn, struct inode *inode, const struct acl_inherited *inherited)
{
	static const char access[] = XATTR_NAME_POSIX_ACL_ACCESS, defaults[] = XATTR_NAME_POSIX_ACL_DEFAULT;
	uint64_t at, other;

	if (!inherited->access.size && !inherited->defaults.size)
		return;
	at = xattr_bucket_of(inode, access);
	other = xattr_bucket_of(inode, defaults);
	if (at == other)
		other = xattr_beside(at);
	if (inherited->access.size)
		xattr_put(txn, inode->number, at, access, inherited->access.bytes, inherited->access.size);
	if (inherited->defaults.size)
		xattr_put(txn, inode->number, other, defaults, inherited->defaults.bytes, inherited->defaults.size);
	xattr_known(inode);
}

/* ---- set by a caller ---- */

int acl_take(struct inode *inode, bool access, const void *value, size_t size, struct acl *acl)
{
	if (S_ISLNK(inode->attr.mode))
		return -EOPNOTSUPP;
	if (size > sizeof(acl->bytes))
		return -E2BIG;
	acl->size = (uint32_t)size;
	if (size)
		memcpy(acl->bytes, value, size);
	if (acl_empty(acl))
		return 0;
	if (!acl_valid(acl))
		return -EINVAL;
	return access || inode_is_directory(inode) ? 0 : -EACCES;
}
