# paligrid: one program, one archive of everything but main(), and the tests linked against it.
#
# Variants live side by side in build/{release,debug,asan,fuzz}: `make VARIANT=debug`. The compiler
# and its flags are recorded in build/<variant>/flags; when they change, everything is rebuilt.
# Every setting can be given from outside: CC, MPICC, CFLAGS_EXTRA, PREFIX, PYTHON, V=1, WERROR=1.
VERSION := 0.1.0
VARIANT ?= release
BUILD ?= build
PREFIX ?= /usr/local
MPICC ?= mpicc
PYTHON ?= /usr/bin/python3
FUZZ_SECONDS ?= 60
B := $(BUILD)/$(VARIANT)
.DEFAULT_GOAL := all

ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin CXX),default)
CXX := $(if $(findstring clang,$(CC)),clang++,g++)
endif
# mpicc only adds the message library's paths; the compiler stays the one chosen here.
export OMPI_CC := $(CC)
export MPICH_CC := $(CC)

# ---- flags ----
OPT_release := -O2
OPT_debug := -O0
OPT_asan := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
OPT_fuzz := $(OPT_asan) -fsanitize=fuzzer-no-link
OPT := $(or $(OPT_$(VARIANT)),$(error VARIANT is one of release, debug, asan, fuzz))
# The bit-identity of results rests on these two: no fused multiply-add, no reordered sums.
EXACT := -ffp-contract=off -fno-fast-math
WARN := -Wall -Wextra -Wshadow -Wvla -Wpointer-arith $(if $(filter true 1,$(CI) $(WERROR)),-Werror)
WARN_C := -Wstrict-prototypes -Wmissing-prototypes
COMMON := -g $(OPT) $(EXACT) $(WARN) -fvisibility=hidden -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE
CFLAGS_ALL := -std=c11 $(COMMON) $(WARN_C) $(CFLAGS_EXTRA)
CXXFLAGS_ALL := -std=c++17 $(COMMON) $(CFLAGS_EXTRA)

include src/ops/cuda/build.mk

# ---- libraries; foreign headers count as system headers, their warnings are not ours ----
have = $(shell pkg-config --exists $(1) 2>/dev/null && echo $(1))
HDF5 := $(firstword $(call have,hdf5-serial) $(call have,hdf5-openmpi) hdf5)
SECCOMP := $(call have,libseccomp)
TURBO := $(call have,libturbojpeg)
PACKAGES := $(HDF5) jansson $(TURBO) libwebp libwebpdemux libxxhash hwloc libarchive libcrypto sentencepiece $(SECCOMP)
INCLUDES := -Iinclude $(patsubst -I%,-isystem %,$(shell pkg-config --cflags-only-I $(PACKAGES) 2>/dev/null)) \
	-isystem /usr/include/stb $(CUDA_INCLUDES)
LDLIBS := -Wl,--as-needed $(shell pkg-config --libs $(PACKAGES) 2>/dev/null) -lstdc++ -lm -lpthread $(CUDA_LIBS)

# Pixels depend on the decoders, so the program names their versions. stb_image's is in its first line.
version = $(1) $(shell pkg-config --modversion $(2) 2>/dev/null)
IMAGE_LIBRARIES = $(if $(TURBO),$(call version,libjpeg-turbo,libturbojpeg),JPEG by stb_image)$(comma) $(call version,libwebp,libwebp)$(comma) \
	stb_image $(shell sed -n '1s/.* v\([0-9.]*\) .*/\1/p' /usr/include/stb/stb_image.h)$(comma) \
	$(if $(SECCOMP),$(call version,libseccomp,libseccomp),no libseccomp)
comma := ,

# ---- sources; a feature that may be missing switches a whole file ----
SANDBOX_OFF := src/image/$(if $(SECCOMP),sandbox_none.c,sandbox_seccomp.c)
JPEG_OFF := src/image/$(if $(TURBO),jpeg_stb.c,jpeg_turbo.c)
CPU_OFF := $(if $(findstring x86_64,$(shell $(CC) -dumpmachine)),src/ops/cpu/ops_cpu_none.c,\
	$(filter-out src/ops/cpu/ops_cpu_none.c,$(wildcard src/ops/cpu/*.c)))
SRC := $(filter-out $(SANDBOX_OFF) $(JPEG_OFF) $(CPU_OFF) $(CUDA_OFF) $(NCCL_OFF) src/cli/main.c,$(sort $(shell find src -name '*.c')))
SRC_CXX := $(sort $(shell find src -name '*.cc'))
OBJ := $(SRC:%.c=$(B)/%.o) $(SRC_CXX:%.cc=$(B)/%.o) $(CUDA_OBJ) $(B)/build_info.o
LIB := $(B)/libpaligrid.a
PROGRAM := $(B)/paligrid
SHEET := $(B)/contact_sheet

# tests/<kind>/test_*.c are programs, tests/fuzz/fuzz_*.c fuzz targets; any other .c below tests/
# helps the test programs and is linked into all of them.
TEST_SRC := $(sort $(shell find tests -name 'test_*.c'))
TESTS := $(TEST_SRC:%.c=$(B)/%)
HELP_OBJ := $(patsubst %.c,$(B)/%.o,$(sort $(shell find tests -name '*.c' ! -name 'test_*' ! -name 'fuzz_*'))) \
	$(SHIM)/shim.o
FUZZERS := $(patsubst tests/fuzz/%.c,$(B)/tests/fuzz/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-6s %s\n' $(1) $(2))
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all lib tests run-tests check test demo oracle asan fuzz run-fuzz deps lint format install bundle clean help FORCE

all: $(PROGRAM) $(SHEET) ## build the program (VARIANT=release, debug, asan; CC=gcc, clang)
	$(if $(filter build/release,$(B)),@ln -sfn $(PROGRAM) paligrid)

$(PROGRAM): $(B)/src/cli/main.o $(LIB)
	$(call say,LINK,$@)
	$(Q)$(MPICC) $(CFLAGS_ALL) -o $@ $^ $(LDLIBS)

$(SHEET): $(B)/demo/contact_sheet.o $(LIB)
	$(call say,LINK,$@)
	$(Q)$(MPICC) $(CFLAGS_ALL) -o $@ $^ $(LDLIBS)

# Two operations may have files of one name (ops/ref, ops/cpu), so members are appended, not replaced.
$(LIB): $(OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar qcs $@ $^

$(B)/src/ops/ref/%.o $(B)/src/comm/comm_combine.o $(B)/src/tensor/quant.o $(B)/src/base/dtype.o: \
	CFLAGS_ALL += -O3
# Which instructions a file of ops/cpu may use is in its name; isa.c decides which files are called.
AVX2 := -mavx2 -mfma -mf16c
AVX512 := $(AVX2) -mavx512f -mavx512bw -mavx512dq -mavx512vl
$(B)/src/ops/cpu/%.o: CFLAGS_ALL += -O3
$(B)/src/ops/cpu/%_avx2.o: CFLAGS_ALL += $(AVX2)
$(B)/src/ops/cpu/%_avx512.o: CFLAGS_ALL += $(AVX512)
$(B)/src/ops/cpu/%_vnni.o: CFLAGS_ALL += $(AVX512) -mavx512vnni
$(B)/src/ops/cpu/%_avx512bf16.o: CFLAGS_ALL += $(AVX512) -mavx512bf16
$(B)/src/ops/cpu/%_amx.o: CFLAGS_ALL += $(AVX512) -mavx512bf16 -mamx-tile -mamx-bf16 -mamx-int8
$(B)/src/image/libraries.o: CFLAGS_ALL += -DIMAGE_LIBRARIES='"$(IMAGE_LIBRARIES)"'
$(B)/%.o: %.c $(B)/flags
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(MPICC) $(CFLAGS_ALL) $(INCLUDES) -Itests -MMD -MP -c $< -o $@
$(B)/%.o: %.cc $(B)/flags
	$(call say,CXX,$<)
	$(Q)mkdir -p $(@D) && $(CXX) $(CXXFLAGS_ALL) $(INCLUDES) -MMD -MP -c $< -o $@
$(B)/build_info.o: $(B)/build_info.c $(B)/flags
	$(Q)$(MPICC) $(CFLAGS_ALL) -Iinclude -c $< -o $@

# Written anew only when their text changes, so that what depends on them is not remade in vain.
replace_if_changed = cmp -s $@.new $@ && rm $@.new || mv $@.new $@
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@pkg-config --exists --print-errors $(PACKAGES) || { echo 'run scripts/install_deps.sh' >&2; exit 1; }
	@printf '%s\n' '$(CC) $(CXX) $(CFLAGS_ALL) $(INCLUDES) $(NVCC) $(NVCC_FLAGS)' >$@.new; $(replace_if_changed)
$(B)/build_info.c: FORCE
	@mkdir -p $(@D)
	@scripts/build_info.sh '$(VERSION)' '$(CC)' '$(VARIANT): $(OPT) $(EXACT) $(CFLAGS_EXTRA)' >$@.new
	@$(replace_if_changed)

# Targets that build and then run something build on all cores, unless make was given its own -j.
JOBS = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))
BUILD_THEN = +@$(MAKE) --no-print-directory $(JOBS)

# ---- tests ----
$(B)/tests/fuzz/fuzz_%: $(B)/tests/fuzz/fuzz_%.o $(LIB)
	$(call say,LINK,$@)
	$(Q)$(MPICC) $(CFLAGS_ALL) -fsanitize=fuzzer -o $@ $^ $(LDLIBS)
$(B)/tests/%: $(B)/tests/%.o $(HELP_OBJ) $(LIB)
	$(call say,LINK,$@)
	$(Q)$(MPICC) $(CFLAGS_ALL) -o $@ $^ $(LDLIBS) -lcmocka

lib: $(LIB) ## build the archive of all rooms, without the program
tests: $(TESTS)
# A test that does not build counts as failed; the others still run.
run-tests:
	@built=yes; $(MAKE) -k --no-print-directory $(JOBS) all tests || built=no; \
	VARIANT=$(VARIANT) BUILD=$(BUILD) PYTHON=$(PYTHON) BUILT=$$built tests/run.sh $(TEST_ARGS)

check: ## build and run the quick tests (under two minutes); TEST_ARGS=pattern picks some
	@$(MAKE) --no-print-directory run-tests TEST_ARGS='--quick $(TEST_ARGS)'

# A Slurm for tests/slurm, where its packages start no services by themselves.
test: ## install what is missing, build, run every test
	@scripts/install_deps.sh $(if $(CI)$(if $(wildcard /run/systemd/system),,yes),--with-slurm)
	@$(MAKE) --no-print-directory run-tests

asan: ## run the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(MAKE) --no-print-directory VARIANT=asan run-tests

demo: deps ## install what is missing, build, run the bundled model on its images
	$(BUILD_THEN) all
	@scripts/demo.sh

oracle: all ## compare against the Python reference on all its models (needs torch, transformers)
	@scripts/oracle.sh

fuzz: ## run each fuzz target for FUZZ_SECONDS (60); needs clang
	$(BUILD_THEN) VARIANT=fuzz CC=clang run-fuzz
run-fuzz: $(FUZZERS)
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tests/fuzz/run.sh $(B) $(FUZZERS)

lint: ## dependency order, writable globals, shell scripts
	@scripts/check_layers.sh
	$(BUILD_THEN) lib
	@scripts/check_globals.sh $(LIB)
	@shellcheck .ci/run $$(find scripts $(wildcard launch slurm) tests -name '*.sh' -o -name '*.sbatch')

format: ## clang-format on every C and C++ file
	@clang-format -i $$(find src include tests -name '*.[ch]' -o -name '*.cc')

deps: ## install missing packages (Debian, Ubuntu), or list them
	@scripts/install_deps.sh

# The parts of an installation that are copied as they are, below share/paligrid.
SHARED := configs launch slurm demo/model demo/images demo/prompts.tsv demo/expected.tsv
install: all ## install under PREFIX (/usr/local): program, man pages, completion, module file, configs, launch, demo
	$(Q)PREFIX='$(PREFIX)' VERSION='$(VERSION)' PYTHON='$(PYTHON)' scripts/install.sh $(PROGRAM) '$(DESTDIR)$(PREFIX)' $(wildcard $(SHARED))

BUNDLE := $(B)/paligrid-$(VERSION)-linux-x86_64.tar.gz
bundle: all ## one relocatable tar with all libraries and Open MPI's run time: $(BUNDLE)
	$(Q)rm -rf $(B)/bundle && $(MAKE) --no-print-directory install PREFIX=/opt/paligrid DESTDIR=$(abspath $(B))/bundle
	$(Q)CC='$(CC)' scripts/bundle.sh $(B)/bundle/opt/paligrid $(BUNDLE)
	$(Q)rm -rf $(B)/bundle

clean: ## remove everything that was built
	rm -rf $(BUILD) paligrid

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | column -t -s '|'

-include $(shell find $(B) -name '*.d' 2>/dev/null)
