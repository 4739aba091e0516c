from Testing.host.fixtures import slicer_host as slicer_host
