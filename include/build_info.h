/* What this binary was built from. One generated file, build/<variant>/build_info.c, holds it all,
 * so that a new commit recompiles nothing else. */
#ifndef BUILD_INFO_H
#define BUILD_INFO_H

const char *build_version(void);  /* "0.1.0 (1a2b3c4-dirty)" */
const char *build_compiler(void); /* "gcc (Debian 12.2.0-14) 12.2.0" */
const char *build_flags(void);    /* "release: -O2 ..." */

#endif
