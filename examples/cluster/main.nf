// A batch in parts, each a task, and one table and one report of all.
//
//     nextflow run main.nf --images /data/plates --out /data/masks --parts 40 \
//         -process.executor slurm
params.parts = 8

// The folders are read and written in place, so that nothing is copied.
process part {
    cpus 4
    memory 2.GB
    time 4.h
    // Stopped or killed: what is finished is skipped. 3: some images failed.
    errorStrategy 'retry'
    maxRetries 2

    input:
    val number

    output:
    val number

    script:
    """
    cellunet predict '${params.images}' --out '${params.out}' --save table --save report \\
        --threads ${task.cpus} --part ${number}/${params.parts} || test \$? -eq 3
    """
}

process join {
    input:
    val numbers

    script:
    """
    cellunet join '${params.out}' || test \$? -eq 3
    """
}

workflow {
    join(part(Channel.of(1..params.parts)).collect())
}
