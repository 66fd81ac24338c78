/* Hides a secret in a text that somebody else wrote: an error message of a server or a library may quote what
 * it was given. Pure. */
#ifndef OPALD_SHM_COMMON_SECRET_MASK_H
#define OPALD_SHM_COMMON_SECRET_MASK_H

/* As many characters of a secret in a row are hidden; fewer may be chance. */
#define SECRET_MASK_LEAST 4

/* Overwrites with '*' whatever stands in `text` and, in SECRET_MASK_LEAST characters or more, in `secrets`
 * too (several: one a line). NULL: nothing is secret. */
void secret_mask(char *text, const char *secrets);

#endif
