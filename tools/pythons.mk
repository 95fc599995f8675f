# Targets for the Pythons that tools/pythons gets; see docs/pythons.md.
PYTHONS := 3.14 3.15 3.13t

##@ Other Pythons
test-3.14:  ## the Python tests on CPython 3.14 (needs root: a chroot of Debian sid)
test-3.15:  ## the same on CPython 3.15
test-3.13t:  ## the same on free-threaded CPython 3.13 (built here from source)
$(PYTHONS:%=test-%): test-%:
	tools/pythons test $* $(if $(ARGS),-- $(ARGS))

pythons:  ## what of them there is
	@tools/pythons list

.PHONY: pythons $(PYTHONS:%=test-%)
