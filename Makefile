# The front door. `make help` lists what there is.
PYTHON ?= $(shell tools/find-python)
VENV ?= .venv
BUILD ?= build
