"""Side-by-side runs of Anomalib models: train, test, measure, and show which one to use.

``python -m anomalib_dmdd.compare --help`` tells what can be set; from Python:

    from anomalib_dmdd.compare.command import main
    main(["--models", "Dmdd", "Patchcore", "--data", "MVTec", "--data.category", "bottle"])
"""
