# What the link step puts into every artefact: the runtime as one object.
