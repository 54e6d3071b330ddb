"""Side-by-side runs of Anomalib models, each in its own process.

``anomalib-dmdd compare --help`` lists the options. From Python:

    from anomalib_dmdd.compare.command import main
    main(["--models", "Dmdd", "Patchcore", "--data", "MVTec", "--data.category", "bottle"])
"""
