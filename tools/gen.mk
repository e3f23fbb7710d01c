# SPDX-License-Identifier: Apache-2.0
# What is carried inside of a program, and which the compiler's own dependencies do not name.
$(O)/cli/manifests.o: $(wildcard manifests/install.yaml manifests/profiles/*.yaml)
