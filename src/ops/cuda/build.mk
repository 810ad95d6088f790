# What CUDA=1 adds, and the kernels as host code for the tests. Included by the Makefile.
#
# Toolkit: NVCC, else CUDA_HOME, else nvcc in PATH, else the wheels. Headers of cuBLASLt and NCCL: the
# toolkit, NCCL_HOME, pkg-config, else the wheels, which scripts/install_cuda_wheels.sh fetches into
# CUDA_WHEELS. Without a header the file that needs it is replaced by its _none twin. Neither library
# is linked: both are opened by name when they are needed, along the program's rpath, which names
# the folders found here. CUDA's runtime is linked statically and does not need a driver to start.
CUDA ?= 0
CUDA_WHEELS ?= $(BUILD)/cuda-wheels
CUDA_SOURCES := $(sort $(wildcard src/ops/cuda/*.cu))
CUDA_ALWAYS := src/ops/cuda/facts.c src/ops/cuda/fit.c src/ops/cuda/gpus.c

ifeq ($(CUDA),1)
NVCC ?= $(firstword $(wildcard $(addsuffix /bin/nvcc,$(CUDA_HOME))) $(shell command -v nvcc 2>/dev/null) \
	$(wildcard $(CUDA_WHEELS)/nvidia/cu13/bin/nvcc))
ifeq ($(NVCC),)
$(error CUDA=1 needs nvcc: set CUDA_HOME, or run scripts/install_cuda_wheels.sh --toolkit)
endif
# nvcc knows best where it lives; it may be a script.
CUDA_TOP := $(or $(CUDA_HOME),$(realpath $(shell $(NVCC) --dryrun -x cu /dev/null -o /dev/null 2>&1 | sed -n 's/^\#\$$ TOP=//p')))
first_with = $(firstword $(foreach dir,$(2),$(if $(wildcard $(dir)/$(1)),$(dir))))
CUDA_WHEEL_TOP := $(CUDA_WHEELS)/nvidia/cu13
LT_INCLUDE := $(call first_with,cublasLt.h,$(CUDA_TOP)/include $(CUDA_WHEEL_TOP)/include)
NCCL_INCLUDE := $(call first_with,nccl.h,$(addsuffix /include,$(NCCL_HOME)) \
	$(patsubst -I%,%,$(shell pkg-config --cflags-only-I nccl 2>/dev/null)) $(CUDA_TOP)/include /usr/include \
	$(CUDA_WHEELS)/nvidia/nccl/include)
CUDA_INCLUDES := $(foreach dir,$(CUDA_TOP)/include $(LT_INCLUDE) $(filter-out /usr/include,$(NCCL_INCLUDE)),-isystem $(dir))
CUDA_LIBRARY_DIRS := $(abspath $(wildcard $(addsuffix /lib64,$(CUDA_TOP)) $(addsuffix /lib,$(CUDA_TOP) $(NCCL_HOME)) \
	$(CUDA_WHEEL_TOP)/lib $(CUDA_WHEELS)/nvidia/nccl/lib))
CUDART := $(firstword $(wildcard $(addsuffix /libcudart_static.a,$(CUDA_LIBRARY_DIRS))))
ifeq ($(CUDART),)
$(error CUDA=1 needs libcudart_static.a beside $(NVCC))
endif
CUDA_OFF := src/ops/cuda/ops_cuda_none.c $(if $(LT_INCLUDE),src/ops/cuda/lt_none.c,src/ops/cuda/lt.c)
NCCL_OFF := src/comm/$(if $(NCCL_INCLUDE),comm_nccl_none.c,comm_nccl.c)
CUDA_OBJ := $(CUDA_SOURCES:%=$(B)/%.o)
CUDA_LIBS := $(CUDART) $(wildcard $(dir $(CUDART))libculibos.a) -ldl -lrt \
	$(foreach dir,$(CUDA_LIBRARY_DIRS),-Wl,-rpath,$(dir))
# No contraction: the bits of an element are those of the operations as they are written.
NVCC_ARCH ?= -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=sm_90a \
	-gencode arch=compute_90,code=compute_90
NVCC_FLAGS := -std=c++17 -O3 --fmad=false $(NVCC_ARCH) -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra \
	$(if $(filter true 1,$(CI) $(WERROR)),-Werror all-warnings) $(NVCC_EXTRA)
else
CUDA_OFF := $(filter-out $(CUDA_ALWAYS) src/ops/cuda/ops_cuda_none.c,$(wildcard src/ops/cuda/*.c))
NCCL_OFF := src/comm/comm_nccl.c
endif

$(B)/src/ops/cuda/%.cu.o: src/ops/cuda/%.cu $(B)/flags
	$(call say,NVCC,$<)
	$(Q)mkdir -p $(@D) && $(NVCC) $(NVCC_FLAGS) -Iinclude -Isrc/ops/cuda/ptx -MMD -MP -MF $(@:.o=.d) -c $< -o $@

# ---- the same files as host code: one object that shows ops_open_cuda_shim and cuda_shim_record ----
SHIM := $(B)/tests/cuda_shim
SHIM_C := $(filter-out $(CUDA_ALWAYS) %_none.c %/lt.c %/gpus_driver.c,$(wildcard src/ops/cuda/*.c)) src/ops/cuda/lt_none.c
SHIM_OBJ := $(CUDA_SOURCES:src/ops/cuda/%=$(SHIM)/%.o) $(SHIM_C:src/ops/cuda/%.c=$(SHIM)/%.c.o) \
	$(patsubst tests/cuda_shim/%.cc,$(SHIM)/%.cc.o,$(wildcard tests/cuda_shim/*.cc))
SHIM_CXX = $(CXXFLAGS_ALL) -Wno-unknown-pragmas -fno-strict-aliasing -isystem tests/cuda_shim $(INCLUDES) -MMD -MP

$(SHIM)/%.cu.o: src/ops/cuda/%.cu $(B)/flags
	$(call say,SHIM,$<)
	$(Q)mkdir -p $(@D) && $(CXX) -x c++ $(SHIM_CXX) -c $< -o $@
$(SHIM)/%.cc.o: tests/cuda_shim/%.cc $(B)/flags
	$(call say,SHIM,$<)
	$(Q)mkdir -p $(@D) && $(CXX) $(SHIM_CXX) -c $< -o $@
$(SHIM)/%.c.o: src/ops/cuda/%.c $(B)/flags
	$(call say,SHIM,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(CFLAGS_ALL) -isystem tests/cuda_shim $(INCLUDES) -MMD -MP -c $< -o $@
$(SHIM)/shim.o: $(SHIM_OBJ)
	$(Q)ld -r --force-group-allocation -o $@.all $^
	$(Q)objcopy --redefine-sym ops_open_cuda=ops_open_cuda_shim --keep-global-symbol=ops_open_cuda_shim \
		--keep-global-symbol=cuda_shim_record $@.all $@
	$(Q)rm -f $@.all
